//! Looks after work whose end the driver may never tell.
//!
//! A stream's callback is told of a failure when the stream gets there; nobody is where other code of the process has
//! destroyed or reset the context, or work hangs behind a failure. Every call then returns the context's error, so a thread
//! asks `cuStreamQuery` about each stream with unfinished work, ten times a second as long as there is any.

use offheap::{Error, Result};
use offheap_cuda::CudaStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long work whose context has failed may be pending before anyone notices.
const INTERVAL: Duration = Duration::from_millis(100);

/// Unfinished work, as long as somebody keeps it.
pub(super) struct Watched {
    /// Where it is done, and what it waits for.
    streams: Vec<CudaStream>,
    /// Told once, with the error of a stream; whatever comes later does not count.
    failed: Box<dyn Fn(Error) + Send + Sync>,
}

impl Watched {
    pub(super) fn new(
        streams: Vec<CudaStream>,
        failed: impl Fn(Error) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            streams,
            failed: Box::new(failed),
        })
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

/// What the thread looks at.
struct Watch {
    is_running: bool,
    all: Vec<Weak<Watched>>,
}

static WATCH: Mutex<Watch> = Mutex::new(Watch {
    is_running: false,
    all: Vec::new(),
});

fn lock() -> MutexGuard<'static, Watch> {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks after work until nobody keeps it any more.
///
/// # Errors
/// [`Busy`](offheap::ErrorKind::Busy) when no thread can be started.
pub(super) fn watch(work: &Arc<Watched>) -> Result<()> {
    let mut watch = lock();
    if !watch.is_running {
        std::thread::Builder::new()
            .name("offheap-cuda-watch".into())
            .spawn(run)
            .map_err(|error| Error::busy(format!("no thread can be started: {error}")))?;
        watch.is_running = true;
    }
    watch.all.push(Arc::downgrade(work));
    Ok(())
}

/// Ends when there is nothing left to look after.
fn run() {
    loop {
        std::thread::sleep(INTERVAL);
        let works: Vec<Arc<Watched>> = {
            let mut watch = lock();
            watch.all.retain(|work| work.strong_count() > 0);
            if watch.all.is_empty() {
                watch.is_running = false;
                return;
            }
            watch.all.iter().filter_map(Weak::upgrade).collect()
        };
        look(&works);
    }
}

/// Asks once about each stream that does its work.
fn look(works: &[Arc<Watched>]) {
    let mut healthy: Vec<&CudaStream> = Vec::new();
    for work in works {
        for stream in &work.streams {
            if healthy.contains(&stream) {
                continue;
            }
            match stream.is_complete() {
                // What is complete has been told, or is at this moment.
                Ok(_) => healthy.push(stream),
                Err(error) => {
                    (work.failed)(error);
                    break;
                }
            }
        }
    }
}
