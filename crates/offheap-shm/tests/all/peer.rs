//! Another process that does as it is told: this test program itself, started anew.

use offheap::{Alignment, DeviceBuffer, Error, ErrorKind, Result};
use offheap_shm::{
    OpenOptions, SharedMemory, SharedMemoryOptions, default_shared_memory_manager, export, import,
};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// An error's code, and its reason where the code has several.
pub(crate) fn describe(error: &Error) -> String {
    match error.kind() {
        ErrorKind::DeviceUnavailable { reason, .. } => format!("{} {reason}", error.code()),
        _ => error.code().to_owned(),
    }
}

/// A process that obeys.
pub(crate) struct Peer {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

const IS_PEER: &str = "OFFHEAP_SHM_PEER";
pub(crate) const ARGUMENTS: [&str; 5] = [
    "peer::serve",
    "--exact",
    "--ignored",
    "--nocapture",
    "--test-threads=1",
];

impl Peer {
    pub(crate) fn start() -> Self {
        Self::start_by(Command::new(env::current_exe().unwrap()))
    }

    /// By another program, whose last arguments are this one and its own.
    pub(crate) fn start_by(mut command: Command) -> Self {
        let mut child = command
            .args(ARGUMENTS)
            .env(IS_PEER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut peer = Self {
            commands: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        assert_eq!(peer.answer(), "ready");
        peer
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                self.answers.read_line(&mut line).unwrap() > 0,
                "the other process has ended: {:?}",
                self.child.wait()
            );
            // The harness prints its own lines, and begins some without ending them.
            if let Some((_, answer)) = line.trim_end().split_once('@') {
                return answer.to_owned();
            }
        }
    }

    /// What it says to a command.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{command}").unwrap();
        self.answer()
    }

    /// What it says to a command that must not fail.
    #[track_caller]
    pub(crate) fn must(&mut self, command: &str) -> String {
        let answer = self.ask(command);
        assert!(!answer.starts_with("ERR_"), "{command}: {answer}");
        answer
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

/// What a peer holds.
#[derive(Default)]
struct Held {
    memories: Vec<SharedMemory>,
    buffers: Vec<DeviceBuffer>,
}

impl Held {
    fn memory(&self) -> Result<&SharedMemory> {
        self.memories
            .last()
            .ok_or_else(|| Error::not_supported("no memory"))
    }

    fn obey(&mut self, command: &str, rest: &[&str]) -> Result<String> {
        let number = |at: usize| rest[at].parse::<usize>().unwrap();
        match command {
            "create" => {
                let options = SharedMemoryOptions {
                    reserve: rest.contains(&"reserve"),
                    freezable: rest.contains(&"freezable"),
                    ..SharedMemoryOptions::default()
                };
                let memory = SharedMemory::create(number(0), &options)?;
                let handle = memory.handle()?.to_string();
                self.memories.push(memory);
                return Ok(handle);
            }
            "handle" => return Ok(self.memory()?.handle()?.to_string()),
            "open" => {
                let options = OpenOptions {
                    read_only: rest[0] == "ro",
                };
                let memory = SharedMemory::open(&rest[1].parse()?, options)?;
                let len = memory.len();
                self.memories.push(memory);
                return Ok(len.to_string());
            }
            "write" => {
                let bytes = vec![number(2) as u8; number(1)];
                self.memory()?.write(number(0), &bytes)?;
            }
            "sum" => {
                let mut bytes = vec![0; number(1)];
                self.memory()?.read(number(0), &mut bytes)?;
                let sum: u64 = bytes.iter().map(|b| u64::from(*b)).sum();
                return Ok(sum.to_string());
            }
            "revoke" => self.memory()?.revoke()?,
            "freeze" => self.memory()?.freeze()?,
            "aligned" => {
                let alignment = Alignment::new(1 << number(1))?;
                let options = SharedMemoryOptions::default();
                let memory = SharedMemory::create_aligned(number(0), alignment, &options)?;
                assert!(alignment.is_aligned(memory.as_ptr().addr().get()));
            }
            "stress" => stress(number(0))?,
            "drop" => *self = Self::default(),
            "export" => {
                let bytes = vec![number(1) as u8; number(0)];
                let buffer = DeviceBuffer::copy_from(&bytes, &default_shared_memory_manager())?;
                let handle = export(&buffer.slice(number(2), number(3))?)?;
                self.buffers.push(buffer);
                return Ok(handle.to_string());
            }
            "import" => {
                // SAFETY: what these tests export is not written any more.
                let buffer = unsafe { import(&rest[0].parse()?)? };
                let bytes = buffer.as_cpu()?;
                let sum: u64 = bytes.iter().map(|b| u64::from(*b)).sum();
                let answer = format!("{} {sum}", bytes.len());
                self.buffers.push(buffer);
                return Ok(answer);
            }
            #[cfg(target_os = "linux")]
            _ => return crate::linux::obey(command, rest),
            #[cfg(not(target_os = "linux"))]
            _ => panic!("unknown command {command}"),
        }
        Ok("done".to_owned())
    }
}

#[test]
#[ignore = "the other process of the other tests, which start it"]
fn serve() {
    if env::var_os(IS_PEER).is_none() {
        return;
    }
    println!("@ready");
    let mut held = Held::default();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        let answer = held.obey(words[0], &words[1..]);
        println!("@{}", answer.unwrap_or_else(|error| describe(&error)));
    }
}

/// Makes, opens and drops memory on four threads.
fn stress(rounds: usize) -> Result<()> {
    let one = |thread: usize| -> Result<()> {
        for round in 0..rounds {
            let size = (thread * 7919 + round * 4099) % 100_000 + 1;
            let memory = SharedMemory::create(size, &SharedMemoryOptions::default())?;
            memory.write(size - 1, &[thread as u8])?;
            let opened = SharedMemory::open(
                &memory.handle()?,
                OpenOptions {
                    read_only: round % 2 == 0,
                },
            )?;
            drop(memory);
            let mut byte = [0];
            opened.read(size - 1, &mut byte)?;
            assert_eq!(usize::from(byte[0]), thread);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|t| scope.spawn(move || one(t))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap())
    })
}
