//! What a garbage collector freed because nobody disposed of it.

use super::site::{Place, Site, Sum};
use crate::domain::{AddressMap, Unhooked};
use crate::origin::StackId;
use std::hash::BuildHasherDefault;
use std::sync::{Mutex, PoisonError};

/// The most places that are told apart: about 4 MiB with their stacks' text.
const MOST: usize = 4096;

/// Sums by place, of bounded size: what does not fit goes to one unknown place.
#[derive(Debug)]
pub(super) struct Forgotten {
    sites: Mutex<AddressMap<Place, Sum>>,
}

impl Forgotten {
    pub(super) const fn new() -> Self {
        Self {
            sites: Mutex::new(AddressMap::with_hasher_in(
                BuildHasherDefault::new(),
                Unhooked,
            )),
        }
    }

    /// Adds what was freed. Whatever is replaced is dropped outside of the lock.
    pub(super) fn add(&self, place: Place, sum: Sum) {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sites.get_mut(&place) {
            known.add(sum);
            drop(sites);
            return;
        }
        // The last place is kept for all that do not fit.
        if sites.len() + 1 < MOST && sites.try_reserve(2).is_ok() {
            sites.insert(place, sum);
            return;
        }
        let unknown = Place {
            native: StackId::NONE,
            foreign: None,
            tags: None,
        };
        if let Some(known) = sites.get_mut(&unknown) {
            known.add(sum);
        } else if sites.try_reserve(1).is_ok() {
            sites.insert(unknown, sum);
        }
        drop(sites);
        drop(place);
    }

    pub(super) fn sites(&self) -> Vec<Site> {
        let mut copy = allocator_api2::vec::Vec::new_in(Unhooked);
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        if copy.try_reserve(sites.len()).is_ok() {
            copy.extend(sites.iter().map(|(place, sum)| (place.clone(), *sum)));
        }
        drop(sites);
        let mut sites: Vec<_> = copy
            .into_iter()
            .map(|(place, sum)| Site::new(place, sum))
            .collect();
        Site::sort(&mut sites);
        sites
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn places_are_summed_and_what_does_not_fit_goes_to_an_unknown_one() {
        let forgotten = Forgotten::new();
        let now = Instant::now();
        let place = |i: usize| Place {
            native: StackId::NONE,
            foreign: Some(format!("f{i}").into()),
            tags: None,
        };
        for i in 0..MOST + 10 {
            forgotten.add(place(i), Sum::of_one(10, now));
        }
        forgotten.add(place(0), Sum::of_one(10, now));
        let sites = forgotten.sites();
        assert_eq!(sites.len(), MOST);
        assert_eq!((sites[0].bytes, sites[0].foreign.as_deref()), (110, None));
        assert_eq!((sites[1].bytes, sites[1].count), (20, 2));
        let bytes: u64 = sites.iter().map(|site| site.bytes).sum();
        assert_eq!(bytes, 10 * (MOST as u64 + 11));
    }
}
