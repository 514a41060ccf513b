//! Python's literals, as far as calls hold them.

use serde_json::{Map, Value};

/// The deepest nesting of lists and dictionaries.
const DEEPEST: usize = 64;

/// The text is not such a literal; whether it is only too short is the reader's to say.
pub struct Wrong;

/// Reads a text from its start.
pub struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// It came to the end of the text.
    short: bool,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Self {
        Self {
            text,
            at: 0,
            short: false,
        }
    }

    /// Bytes that are read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether more text could mend what was wrong.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// What was read cannot be used.
    pub fn wrong(&self) -> Wrong {
        Wrong
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The next character, behind white space.
    fn peek(&mut self) -> Result<char, Wrong> {
        let rest = self.rest().trim_start();
        self.at = self.text.len() - rest.len();
        rest.chars().next().ok_or_else(|| self.ends())
    }

    fn ends(&mut self) -> Wrong {
        self.short = true;
        Wrong
    }

    /// Reads a character if it comes next.
    pub fn take(&mut self, c: char) -> Result<bool, Wrong> {
        let found = self.peek()? == c;
        if found {
            self.at += c.len_utf8();
        }
        Ok(found)
    }

    /// Reads a character that must come next.
    pub fn expect(&mut self, c: char) -> Result<(), Wrong> {
        if self.take(c)? { Ok(()) } else { Err(Wrong) }
    }

    /// Whether a list ends here, after an item: else a comma comes, and perhaps the end behind it.
    pub fn end_of(&mut self, close: char) -> Result<bool, Wrong> {
        if self.take(close)? {
            return Ok(true);
        }
        self.expect(',')?;
        self.take(close)
    }

    /// A name; one at the end of the text must be the beginning of an allowed one.
    pub fn name(&mut self, may_begin: impl Fn(&str) -> bool) -> Result<String, Wrong> {
        let first = self.peek()?;
        let rest = self.rest();
        let part = |c: char| c.is_alphanumeric() || "_.-".contains(c);
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        if end == 0 || first.is_ascii_digit() || !may_begin(&rest[..end]) {
            return Err(Wrong);
        }
        if end == rest.len() {
            return Err(self.ends());
        }
        self.at += end;
        Ok(rest[..end].to_owned())
    }

    /// A value.
    pub fn value(&mut self, depth: usize) -> Result<Value, Wrong> {
        if depth > DEEPEST {
            return Err(Wrong);
        }
        match self.peek()? {
            '[' | '(' => self.list(depth),
            '{' => self.dictionary(depth),
            '"' | '\'' => self.string().map(Value::from),
            _ => self.word(),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Wrong> {
        let close = if self.take('[')? { ']' } else { ')' };
        if close == ')' {
            self.expect('(')?;
        }
        let mut items = Vec::new();
        if self.take(close)? {
            return Ok(items.into());
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.end_of(close)? {
                return Ok(items.into());
            }
        }
    }

    fn dictionary(&mut self, depth: usize) -> Result<Value, Wrong> {
        self.expect('{')?;
        let mut pairs = Map::new();
        if self.take('}')? {
            return Ok(pairs.into());
        }
        loop {
            self.peek()?;
            let key = self.string()?;
            self.expect(':')?;
            pairs.insert(key, self.value(depth + 1)?);
            if self.end_of('}')? {
                return Ok(pairs.into());
            }
        }
    }

    fn string(&mut self) -> Result<String, Wrong> {
        let mut chars = self.rest().char_indices();
        let quote = match chars.next() {
            Some((_, quote @ ('"' | '\''))) => quote,
            _ => return Err(Wrong),
        };
        let mut read = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, 'u')) => {
                        let digits = at + 2;
                        let unit = unit(self.rest(), digits);
                        let low = |_: &u32| unit_pair(self.rest(), digits + 4);
                        let (code, length) = match unit {
                            Some(high @ 0xD800..=0xDBFF) => match low(&high) {
                                Some(low @ 0xDC00..=0xDFFF) => {
                                    (0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), 10)
                                }
                                _ => (0xFFFD, 4),
                            },
                            Some(code) => (code, 4),
                            None if self.rest().len() < digits + 4 => return Err(self.ends()),
                            None => return Err(Wrong),
                        };
                        read.push(char::from_u32(code).unwrap_or('\u{FFFD}'));
                        chars.nth(length - 1);
                    }
                    Some((_, c)) => escape(c, &mut read),
                    None => break,
                },
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(read);
                }
                c => read.push(c),
            }
        }
        Err(self.ends())
    }

    /// A number, or a name that stands for a value.
    fn word(&mut self) -> Result<Value, Wrong> {
        let rest = self.rest();
        let part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
        if end == rest.len() {
            return Err(self.ends());
        }
        let value = match &rest[..end] {
            "True" | "true" => true.into(),
            "False" | "false" => false.into(),
            "None" | "null" => Value::Null,
            number => serde_json::from_str(number).map_err(|_| Wrong)?,
        };
        self.at += end;
        Ok(value)
    }
}

/// The code unit of four hexadecimal digits.
fn unit(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 4)?;
    u32::from_str_radix(digits, 16).ok()
}

/// The same behind `\u`.
fn unit_pair(text: &str, at: usize) -> Option<u32> {
    text.get(at..)?
        .starts_with("\\u")
        .then(|| unit(text, at + 2))?
}

fn escape(c: char, read: &mut String) {
    match c {
        'n' => read.push('\n'),
        't' => read.push('\t'),
        'r' => read.push('\r'),
        'b' => read.push('\x08'),
        'f' => read.push('\x0c'),
        '\n' => {}
        '\\' | '/' | '"' | '\'' => read.push(c),
        // As Python does with what it does not know.
        other => read.extend(['\\', other]),
    }
}
