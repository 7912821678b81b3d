//! Failures that a test asks for: `symbol:code[:after[:times]]`.

/// One injected failure.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    symbol: String,
    code: u32,
    /// Calls that still succeed first.
    after: u64,
    /// Calls that fail then.
    times: u64,
}

/// All injected failures, in the order given; a call takes the first that applies.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<Failure>);

impl Failures {
    /// Parses a comma-separated list.
    ///
    /// # Errors
    /// A sentence that names the part that cannot be read.
    pub(crate) fn parse(list: &str) -> Result<Self, String> {
        let mut failures = Self::default();
        for part in list
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let fields: Vec<&str> = part.split(':').collect();
            let number = |text: &str| {
                text.parse::<u64>()
                    .map_err(|_| format!("`{text}` in `{part}` is no number"))
            };
            let (symbol, code) = match fields.as_slice() {
                [symbol, code, ..] if symbol.starts_with("cu") => (*symbol, number(code)?),
                _ => return Err(format!("`{part}` is not symbol:code[:after[:times]]")),
            };
            let code = u32::try_from(code)
                .map_err(|_| format!("the code in `{part}` is beyond 32 bits"))?;
            let (after, times) = match fields.as_slice() {
                [_, _] => (0, u64::MAX),
                [_, _, after] => (number(after)?, u64::MAX),
                [_, _, after, times] => (number(after)?, number(times)?),
                _ => return Err(format!("`{part}` has too many fields")),
            };
            failures.add(symbol, code, after, times);
        }
        Ok(failures)
    }

    pub(crate) fn add(&mut self, symbol: &str, code: u32, after: u64, times: u64) {
        self.0.push(Failure {
            symbol: symbol.to_owned(),
            code,
            after,
            times,
        });
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The code that this call must return, if it is to fail. Symbols match with or without `_v2`.
    pub(crate) fn next(&mut self, symbol: &str) -> Option<u32> {
        let plain = symbol.strip_suffix("_v2").unwrap_or(symbol);
        let failure = self
            .0
            .iter_mut()
            .find(|f| f.times > 0 && (f.symbol == symbol || f.symbol == plain))?;
        if failure.after > 0 {
            failure.after -= 1;
            return None;
        }
        if failure.times != u64::MAX {
            failure.times -= 1;
        }
        Some(failure.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_and_times() {
        let mut failures = Failures::parse("cuMemAlloc:2:1:2, cuInit:100").unwrap();
        let codes: Vec<_> = (0..4).map(|_| failures.next("cuMemAlloc_v2")).collect();
        assert_eq!(codes, [None, Some(2), Some(2), None]);
        assert_eq!(failures.next("cuInit"), Some(100));
        assert_eq!(failures.next("cuInit"), Some(100));
        assert_eq!(failures.next("cuMemFree_v2"), None);
    }

    #[test]
    fn wrong_lists_are_named() {
        assert!(Failures::parse("cuInit").unwrap_err().contains("cuInit"));
        assert!(
            Failures::parse("cuInit:x")
                .unwrap_err()
                .contains("no number")
        );
        assert!(
            Failures::parse("cuInit:1:2:3:4")
                .unwrap_err()
                .contains("too many")
        );
    }
}
