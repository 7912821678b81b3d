//! What other processes may ask for.

use super::message::{Answer, Given, Question};
use offheap::Result;
use offheap_shm::Secret;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pool that is sent.
#[derive(Debug)]
pub(crate) struct SharedPool {
    /// The driver's descriptor of it, open as long as an allocation of it is offered.
    pub(crate) descriptor: OwnedFd,
    /// Random, so that openers know two allocations of one pool.
    pub(crate) name: [u8; 16],
    /// The GPU's UUID.
    pub(crate) device: [u8; 16],
}

#[derive(Debug)]
struct Offer {
    secret: Secret,
    pool: Arc<SharedPool>,
    pointer: [u8; 64],
    size: u64,
}

#[derive(Debug)]
struct Offers {
    /// The number of the next.
    next: u64,
    all: BTreeMap<u64, Offer>,
}

static OFFERS: Mutex<Offers> = Mutex::new(Offers {
    next: 0,
    all: BTreeMap::new(),
});

fn offers() -> MutexGuard<'static, Offers> {
    OFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets others ask for an allocation, by the number and the secret that come back.
pub(crate) fn offer(pool: Arc<SharedPool>, pointer: [u8; 64], size: u64) -> Result<(u64, Secret)> {
    let secret = Secret::new()?;
    let mut offers = offers();
    let number = offers.next;
    offers.next += 1;
    let offer = Offer {
        secret,
        pool,
        pointer,
        size,
    };
    offers.all.insert(number, offer);
    Ok((number, secret))
}

/// An allocation is about to be freed: from now on nobody is told of it.
pub(crate) fn withdraw(number: u64) {
    let gone = offers().all.remove(&number);
    // Its descriptor may be closed by this: not under the lock.
    drop(gone);
}

/// Answers a question; with the pool whose descriptor is to go with the answer.
pub(super) fn answer(question: &Question) -> (Answer, Option<Arc<SharedPool>>) {
    let offers = offers();
    match offers.all.get(&question.number) {
        Some(offer) if offer.secret.matches(&question.secret) => {
            let given = Given {
                pool: offer.pool.name,
                device: offer.pool.device,
                pointer: offer.pointer,
                size: offer.size,
            };
            (Answer::Given(given), Some(Arc::clone(&offer.pool)))
        }
        Some(_) => (Answer::Unknown, None),
        // Secrets of what is gone are not kept.
        None if question.number < offers.next => (Answer::Gone, None),
        None => (Answer::Unknown, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_offered_is_given_and_only_for_its_secret() {
        let pool = Arc::new(SharedPool {
            descriptor: std::fs::File::open("/dev/null").unwrap().into(),
            name: [1; 16],
            device: [2; 16],
        });
        let (number, secret) = offer(Arc::clone(&pool), [3; 64], 4).unwrap();
        let ask = |number, secret| answer(&Question { number, secret });
        let (found, with) = ask(number, secret);
        let expected = Answer::Given(Given {
            pool: [1; 16],
            device: [2; 16],
            pointer: [3; 64],
            size: 4,
        });
        assert_eq!(found, expected);
        assert!(Arc::ptr_eq(&with.unwrap(), &pool));
        let forged = Secret::new().unwrap();
        for (found, with) in [ask(number, forged), ask(u64::MAX, secret)] {
            assert!(found == Answer::Unknown && with.is_none());
        }
        withdraw(number);
        withdraw(number);
        let (found, with) = ask(number, secret);
        assert!(found == Answer::Gone && with.is_none());
        assert_eq!(Arc::strong_count(&pool), 1);
    }
}
