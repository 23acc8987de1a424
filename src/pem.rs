//! Textual encodings of keys and certificates (RFC 7468), read as leniently as OpenSSL reads them: lines may end
//! in CRLF and have any width up to 254 characters, and other text may stand around the blocks.

use pem_rfc7468::{BASE64_WRAP_WIDTH, LineEnding};

/// OpenSSL's reader takes lines of up to this many characters.
const LINE_LIMIT: usize = 254;

/// One block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block<'a> {
    /// What stands after `BEGIN`.
    pub label: &'a str,
    /// Its content, or what is wrong with it.
    pub der: Result<Vec<u8>, String>,
}

/// All blocks of `text`, in order.
pub fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        if let Some(label) = begin_label(line) {
            blocks.push(Block { label, der: content(label, &mut lines) });
        }
    }
    blocks
}

fn begin_label(line: &str) -> Option<&str> {
    // A label has no hyphen here, or the text of a key whose line breaks were lost would be taken for one.
    line.strip_prefix("-----BEGIN ")?.strip_suffix("-----").filter(|label| !label.contains('-'))
}

/// The content of the block that has just begun.
fn content<'a>(label: &str, lines: &mut impl Iterator<Item = &'a str>) -> Result<Vec<u8>, String> {
    let end = format!("-----END {label}-----");
    let mut body = String::new();
    loop {
        match lines.next() {
            None => return Err("its end is missing".to_owned()),
            Some(line) if line == end => break,
            Some(line) if line.len() > LINE_LIMIT => return Err("a line is too long".to_owned()),
            Some(line) => body.push_str(line),
        }
    }
    if body.is_empty() || !body.is_ascii() {
        return Err("its content is not base64".to_owned());
    }
    let wrapped: Vec<_> = body.as_bytes().chunks(BASE64_WRAP_WIDTH).map(String::from_utf8_lossy).collect();
    let pem = format!("-----BEGIN {label}-----\n{}\n{end}\n", wrapped.join("\n"));
    pem_rfc7468::decode_vec(pem.as_bytes()).map(|(_, der)| der).map_err(|error| error.to_string())
}

/// One block in normal form: lines of 64 characters, Unix line ends, a final one.
///
/// # Errors
/// `label` is not one of RFC 7468, section 2.
pub fn encode(label: &str, der: &[u8]) -> Result<String, String> {
    pem_rfc7468::encode_string(label, LineEnding::LF, der).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_are_found_among_other_text_and_faults_belong_to_their_block() {
        let text = "a note\r\n-----BEGIN ONE-----\r\nAQID\r\n-----END ONE-----\r\nmore\n\
                    -----BEGIN TWO-----\n!!!!\n-----END TWO-----\n-----BEGIN THREE-----\nAQID\n";
        let found = blocks(text);
        assert_eq!(found.iter().map(|block| block.label).collect::<Vec<_>>(), ["ONE", "TWO", "THREE"]);
        assert_eq!(found[0].der, Ok(vec![1, 2, 3]));
        assert!(found[1].der.is_err());
        assert_eq!(found[2].der, Err("its end is missing".to_owned()));
    }

    #[test]
    fn a_block_whose_line_breaks_were_lost_is_none() {
        assert_eq!(blocks("-----BEGIN ONE----- AQID -----END ONE-----"), []);
        let long = format!("-----BEGIN ONE-----\n{}\n-----END ONE-----\n", "A".repeat(256));
        assert_eq!(blocks(&long)[0].der, Err("a line is too long".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_at_any_width(der in proptest::collection::vec(any::<u8>(), 1..300), width in 1_usize..254) {
            let pem = encode("ANY", &der).unwrap();
            let body: Vec<char> = pem.lines().filter(|line| !line.starts_with('-')).flat_map(str::chars).collect();
            let lines: Vec<String> = body.chunks(width).map(|line| line.iter().collect()).collect();
            let text = format!("-----BEGIN ANY-----\r\n{}\r\n-----END ANY-----", lines.join("\r\n"));
            prop_assert_eq!(&blocks(&text)[0].der, &Ok(der));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "(-----(BEGIN|END) [A-Z ]{0,4}-----|\n|[A-Za-z=]{0,8}|\\PC){0,20}") {
            prop_assert!(blocks(&text).len() <= text.lines().count());
        }
    }
}
