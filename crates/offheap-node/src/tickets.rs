//! Tickets: how another worker gets at the same bytes or the same pool.

use crate::buffers::adopt;
use crate::environment::Environment;
use crate::errors::{OrThrow, disposed};
use crate::handle::Handle;
use crate::pools;
use napi::bindgen_prelude::Env;
use napi_derive::napi;
use offheap::{Block, Error, MemoryManager, Pool, Result};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// What a ticket stands for; it holds a reference until it is revoked.
#[derive(Debug, Clone)]
enum Shared {
    Buffer {
        block: Block,
        offset: usize,
        len: usize,
        is_mutable: bool,
        is_whole: bool,
        manager: Option<Arc<dyn MemoryManager>>,
    },
    Pool(Pool),
}

#[derive(Debug, Default)]
struct Tickets {
    last: u64,
    open: HashMap<u64, (u128, Shared)>,
}

/// Every ticket of the process: workers share statics, not environments.
static TICKETS: LazyLock<Mutex<Tickets>> = LazyLock::new(Mutex::default);

fn tickets() -> MutexGuard<'static, Tickets> {
    TICKETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A ticket: plain data, made for `postMessage`.
#[derive(Debug)]
#[napi(object)]
pub struct NativeTicket {
    /// The ticket's number.
    pub id: f64,
    /// 128 random bits in hexadecimal digits, so that no ticket can be guessed.
    pub secret: String,
}

fn issue(shared: Shared) -> Result<NativeTicket> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)
        .map_err(|_| Error::not_supported("the system gives no random numbers"))?;
    let secret = u128::from_ne_bytes(secret);
    let mut tickets = tickets();
    tickets.last += 1;
    let id = tickets.last;
    tickets.open.insert(id, (secret, shared));
    #[expect(clippy::cast_precision_loss, reason = "a counter below 2^53")]
    Ok(NativeTicket {
        id: id as f64,
        secret: format!("{secret:032x}"),
    })
}

/// The open ticket's number, if the secret is right.
fn check(tickets: &Tickets, id: f64, secret: &str) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number that is no id finds nothing"
    )]
    let number = id as u64;
    let given = u128::from_str_radix(secret, 16)
        .ok()
        // Digits only: the parser takes a sign.
        .filter(|_| secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "a counter below 2^53"
    )]
    let exact = number as f64 == id;
    tickets
        .open
        .get(&number)
        .filter(|(right, _)| exact && *right == given)
        .map(|_| number)
}

fn redeem(id: f64, secret: &str) -> Result<Shared> {
    let tickets = tickets();
    check(&tickets, id, secret)
        .and_then(|number| tickets.open.get(&number))
        .map(|(_, shared)| shared.clone())
        .ok_or_else(|| {
            Error::invalid_argument(
                "ticket",
                "another",
                "one that was issued and is not revoked",
            )
        })
}

fn wrong_kind(expected: &'static str) -> Error {
    Error::invalid_argument("ticket", "a ticket of another kind", expected)
}

/// A ticket for a pool.
#[napi(catch_unwind)]
pub fn pool_share(env: Env, pool: f64) -> napi::Result<NativeTicket> {
    let state = Environment::of(env)?;
    state
        .pool(pool)
        .and_then(|pool| issue(Shared::Pool(pool)))
        .or_throw(env)
}

/// The pool of a ticket.
#[napi(catch_unwind)]
pub fn pool_from_shared(env: Env, id: f64, secret: String) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let opened = || match redeem(id, &secret)? {
        Shared::Pool(pool) => pools::adopt(state, pool),
        Shared::Buffer { .. } => Err(wrong_kind("a pool's ticket")),
    };
    opened().or_throw(env)
}

/// A ticket for a buffer's bytes.
#[napi(catch_unwind)]
pub fn buffer_share(env: Env, buffer: f64) -> napi::Result<NativeTicket> {
    let state = Environment::of(env)?;
    let shared = || {
        let handles = state.handles();
        let handle = handles.get(buffer).ok_or_else(|| disposed("buffer"))?;
        handle.must_not_be_lent()?;
        issue(Shared::Buffer {
            block: handle.block.clone(),
            offset: handle.offset,
            len: handle.len,
            is_mutable: handle.is_mutable,
            is_whole: handle.is_whole,
            manager: handle.own_manager().cloned(),
        })
    };
    shared().or_throw(env)
}

/// The buffer of a ticket; word 4 says whether it is mutable.
#[napi(catch_unwind)]
pub fn buffer_from_shared(env: Env, id: f64, secret: String) -> napi::Result<f64> {
    let state = Environment::of(env)?;
    let opened = || match redeem(id, &secret)? {
        Shared::Buffer {
            block,
            offset,
            len,
            is_mutable,
            is_whole,
            manager,
        } => {
            let mut handle = Handle::placed(block, offset, len, manager);
            handle.is_mutable = is_mutable;
            handle.is_whole = is_whole;
            // This environment's heap keeps the bytes too, so it shall feel them.
            let counts = is_whole && handle.is_cpu();
            let bytes = if counts { handle.block.size() } else { 0 };
            let told = handle.told.set(bytes);
            let id = adopt(state, handle)?;
            state.adjust_external(env, told);
            state.set_word(4, u64::from(is_mutable));
            Ok(id)
        }
        Shared::Pool(_) => Err(wrong_kind("a buffer's ticket")),
    };
    opened().or_throw(env)
}

/// Ends a ticket; what was opened with it stays. False when there is no such ticket any more.
#[napi(catch_unwind)]
pub fn revoke_shared(id: f64, secret: String) -> bool {
    let mut tickets = tickets();
    let gone = check(&tickets, id, &secret).and_then(|number| tickets.open.remove(&number));
    drop(tickets);
    // Outside of the lock: the last reference frees memory.
    gone.is_some()
}

/// How many tickets were not revoked.
#[napi(catch_unwind)]
pub fn shared_tickets() -> u32 {
    u32::try_from(tickets().open.len()).unwrap_or(u32::MAX)
}
