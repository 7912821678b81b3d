//! As much of JSON as a log needs: flat objects.

use std::fmt::{self, Write};

/// A value of a flat object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(String),
    /// A number as it is written.
    Number(&'a str),
    Other,
}

/// Writes a string with its quotes.
pub(super) fn write_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// The rest of a line that is read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn eat(&mut self, c: char) -> Option<()> {
        self.skip_space();
        self.0 = self.0.strip_prefix(c)?;
        Some(())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.0.chars().next()?;
        self.0 = &self.0[c.len_utf8()..];
        Some(c)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.0.get(..4)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.0 = &self.0[4..];
        u32::from_str_radix(digits, 16).ok()
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.next()? {
            c @ ('"' | '\\' | '/') => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.hex4()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                self.0 = self.0.strip_prefix("\\u")?;
                let second = self
                    .hex4()?
                    .checked_sub(0xdc00)
                    .filter(|low| *low < 0x400)?;
                char::from_u32(0x10000 + ((first - 0xd800) << 10) + second)?
            }
            _ => return None,
        })
    }

    fn string(&mut self) -> Option<String> {
        self.eat('"')?;
        let mut text = String::new();
        loop {
            match self.next()? {
                '"' => return Some(text),
                '\\' => text.push(self.escaped()?),
                c if c < ' ' => return None,
                c => text.push(c),
            }
        }
    }

    fn value(&mut self) -> Option<Value<'a>> {
        self.skip_space();
        if self.0.starts_with('"') {
            return self.string().map(Value::Text);
        }
        let end = self.0.find([',', '}', ' ', '\t', '\r', '\n'])?;
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        match word {
            "true" | "false" | "null" => Some(Value::Other),
            // Whether it is a number that is wanted, its reader finds out.
            _ if word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                Some(Value::Number(word))
            }
            _ => None,
        }
    }
}

/// Calls `each` with the members of a flat object. `None` when it is none, or when `each` says so.
pub(super) fn read_object<'a>(
    line: &'a str,
    mut each: impl FnMut(&str, Value<'a>) -> Option<()>,
) -> Option<()> {
    let mut rest = Rest(line);
    rest.eat('{')?;
    if rest.eat('}').is_none() {
        loop {
            let key = rest.string()?;
            rest.eat(':')?;
            each(&key, rest.value()?)?;
            if rest.eat(',').is_none() {
                break;
            }
        }
        rest.eat('}')?;
    }
    rest.skip_space();
    rest.0.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Vec<(String, Value<'_>)>> {
        let mut members = Vec::new();
        read_object(line, |key, value| {
            members.push((key.to_owned(), value));
            Some(())
        })?;
        Some(members)
    }

    #[test]
    fn flat_objects_are_read() {
        assert_eq!(read(" { } "), Some(vec![]));
        let members = read(r#"{"a": "x\"\\\/\n\u0041\ud83d\ude00é", "b":-1.5 ,"c":null}"#).unwrap();
        assert_eq!(
            members,
            [
                ("a".to_owned(), Value::Text("x\"\\/\nA😀é".to_owned())),
                ("b".to_owned(), Value::Number("-1.5")),
                ("c".to_owned(), Value::Other),
            ]
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for line in [
            "",
            "{",
            "}",
            "{}x",
            "[]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\":{}}",
            "{\"a\":[1]}",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\\u+123\"}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\\ud800\\u0041\"}",
            "{\"a\":\"\\udc00\"}",
            "{\"a\":\"\\ué00\"}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":yes}",
            "{a:1}",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        struct Quoted<'a>(&'a str);
        impl fmt::Display for Quoted<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_string(f, self.0)
            }
        }
        for text in ["", "plain", "\"\\\u{0}\n\u{1f}é😀,}"] {
            let line = format!("{{\"a\":{}}}", Quoted(text));
            assert_eq!(read(&line).unwrap()[0].1, Value::Text(text.to_owned()));
        }
    }
}
