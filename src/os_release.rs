//! os-release(5), of this host and of images.

/// Its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OsRelease<'a>(&'a str);

impl<'a> OsRelease<'a> {
    /// Takes the text as it is.
    pub(crate) fn parse(text: &'a str) -> Self {
        Self(text)
    }

    /// The value of `key` without its quotes; none where it is missing or empty.
    pub(crate) fn get(self, key: &str) -> Option<String> {
        let found = self.0.lines().filter_map(|line| line.trim().split_once('=')).find(|(name, _)| *name == key);
        found.map(|(_, value)| value.trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty())
    }
}
