//! Bytes, as they come, to lines.

/// Longest line that is kept in one piece, bytes; a longer one is cut into pieces of this length.
pub const LONGEST: usize = 16 * 1024;

/// Cuts a stream of bytes into lines.
///
/// A carriage return ends a line too, so that progress bars are seen as they move; empty lines are
/// kept, except that `\r\n` ends one line and not two. Bytes that are not UTF-8 are replaced.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
    after_return: bool,
}

impl Splitter {
    /// Takes bytes; `each` gets every line that they complete.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for byte in bytes {
            match byte {
                b'\n' if self.after_return => {}
                b'\n' | b'\r' => self.flush(&mut each),
                byte => {
                    self.pending.push(*byte);
                    if self.pending.len() >= LONGEST {
                        self.flush_piece(&mut each);
                    }
                }
            }
            self.after_return = *byte == b'\r';
        }
    }

    /// The end of the stream: `each` gets what has no line end.
    pub fn finish(&mut self, mut each: impl FnMut(&str)) {
        if !self.pending.is_empty() {
            self.flush(&mut each);
        }
    }

    /// What has come since the last line end; prompts are found here.
    pub fn pending(&self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    fn flush(&mut self, each: &mut impl FnMut(&str)) {
        each(&String::from_utf8_lossy(&self.pending));
        self.pending.clear();
    }

    /// Passes on a piece of a long line, without cutting a character in two.
    fn flush_piece(&mut self, each: &mut impl FnMut(&str)) {
        let tail = self.pending.iter().rev().take(4).position(|byte| byte & 0xC0 != 0x80).map_or(0, |back| back + 1);
        let split = match self.pending[self.pending.len() - tail..] {
            [first, ..] if first >= 0xC0 => self.pending.len() - tail,
            _ => self.pending.len(),
        };
        let rest = self.pending.split_off(split);
        self.flush(each);
        self.pending = rest;
    }
}

/// The last lines of a stream, for an error message.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    lines: std::collections::VecDeque<String>,
    bytes: usize,
}

impl Tail {
    /// How much is kept, bytes.
    pub const CAPACITY: usize = 4096;

    /// Takes a line.
    pub fn push(&mut self, line: &str) {
        self.bytes += line.len();
        self.lines.push_back(line.to_owned());
        while self.bytes > Self::CAPACITY && self.lines.len() > 1 {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }

    /// The lines, joined; empty when there were none.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.bytes + self.lines.len());
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.push(chunk, |line| lines.push(line.to_owned()));
        }
        splitter.finish(|line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_end_at_newline_return_and_both() {
        assert_eq!(split(&[b"a\nb\r", b"\nc\rd\n\ne"]), ["a", "b", "c", "d", "", "e"]);
    }

    #[test]
    fn a_character_cut_by_a_packet_is_whole_again() {
        assert_eq!(split(&[b"caf\xc3", b"\xa9\n"]), ["café"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_and_nothing_is_lost() {
        let long = "é".repeat(LONGEST);
        let lines = split(&[b"x", long.as_bytes()]);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= LONGEST));
        assert_eq!(lines.concat(), format!("x{long}"));
    }

    #[test]
    fn a_tail_keeps_the_last_lines_and_at_least_one() {
        let mut tail = Tail::default();
        tail.push(&"x".repeat(Tail::CAPACITY * 2));
        assert_eq!(tail.text().len(), Tail::CAPACITY * 2);
        tail.push("last");
        assert_eq!(tail.text(), "last");
    }

    proptest! {
        #[test]
        fn the_way_the_bytes_are_cut_does_not_matter(text in "[a-zé\r\n]{0,200}", at in 0usize..200) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            prop_assert_eq!(split(&[bytes]), split(&[&bytes[..at], &bytes[at..]]));
        }
    }
}
