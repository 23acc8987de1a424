//! The certificate authorities that a site adds to its hosts' trust store.
//!
//! Behind a proxy that signs TLS anew, a guest can fetch nothing until it trusts what the host trusts. These are
//! the certificates that the host's administrator added, not those that the distribution ships.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pkcs1::der::{AnyRef, Decode, Reader, SliceReader, Tag, Tagged};
use walkdir::WalkDir;

use crate::error::{Context, Error, Kind, Result};
use crate::pem;

/// Where administrators put certificates: update-ca-certificates(8) of Debian, update-ca-trust(8) of Fedora
/// and of Arch Linux.
pub const HOST_FOLDERS: [&str; 3] = [
    "/usr/local/share/ca-certificates",
    "/etc/pki/ca-trust/source/anchors",
    "/etc/ca-certificates/trust-source/anchors",
];

const LABEL: &str = "CERTIFICATE";

/// One certificate authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// A file name that ends in `.crt`, unique among those found, of letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// One PEM block.
    pub pem: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Sorted by name, each content once.
    pub certificates: Vec<Certificate>,
    /// Files of the host's folders that were passed over, and why: sentences.
    pub passed_over: Vec<String>,
}

/// Collects the certificates below `folders` (those that are missing count as empty) and in the files `extra`
/// (`--ca-cert`).
///
/// # Errors
/// A file of `extra` is unreadable or holds no certificate, or something that is none (kind usage).
pub fn collect<P: AsRef<Path>>(folders: &[P], extra: &[PathBuf]) -> Result<Certificates> {
    let mut collection = Collection::default();
    for path in folders.iter().flat_map(|folder| files_below(folder.as_ref())) {
        match std::fs::read(&path).map_err(|error| error.to_string()).and_then(|bytes| decode(&bytes)) {
            Ok(certificates) => collection.add(&path, certificates),
            Err(reason) => collection.passed_over.push(format!("{}: {reason}", path.display())),
        }
    }
    for path in extra {
        let bytes =
            std::fs::read(path).context(Kind::Usage, || format!("reading the certificate {}", path.display()))?;
        let certificates = decode(&bytes).map_err(|reason| {
            Error::usage(format!("`--ca-cert {}`: {reason}", path.display()))
                .hint("give certificates in PEM or one in DER")
        })?;
        collection.add(path, certificates);
    }
    Ok(collection.finish())
}

/// Files that the trust stores' tools would take, in a stable order.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_map(Result::ok);
    let wanted = |path: &Path| {
        path.extension().is_some_and(|extension| ["crt", "pem", "cer"].iter().any(|known| extension == *known))
    };
    entries
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| wanted(path))
        .collect()
}

#[derive(Default)]
struct Collection {
    certificates: Vec<Certificate>,
    contents: BTreeSet<Vec<u8>>,
    passed_over: Vec<String>,
}

impl Collection {
    fn add(&mut self, path: &Path, certificates: Vec<Vec<u8>>) {
        let stem = safe_stem(path);
        let several = certificates.len() > 1;
        for (place, der) in certificates.into_iter().enumerate() {
            // Base64 of any bytes fits the memory that they came from.
            let Ok(pem) = pem::encode(LABEL, &der) else { continue };
            if self.contents.insert(der) {
                let name = if several { format!("{stem}-{}", place + 1) } else { stem.clone() };
                let name = self.unused(&name);
                self.certificates.push(Certificate { name, pem });
            }
        }
    }

    fn unused(&self, stem: &str) -> String {
        let taken = |name: &String| self.certificates.iter().any(|certificate| certificate.name == *name);
        let numbered = (2..).map(|number| format!("{stem}-{number}.crt"));
        let mut names = std::iter::once(format!("{stem}.crt")).chain(numbered);
        names.find(|name| !taken(name)).unwrap_or_default()
    }

    fn finish(mut self) -> Certificates {
        self.certificates.sort_by(|one, other| one.name.cmp(&other.name));
        Certificates { certificates: self.certificates, passed_over: self.passed_over }
    }
}

/// The file's name without its ending, of characters that are safe in any shell and trust store.
fn safe_stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let safe =
        |character: char| if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '_' };
    stem.trim_start_matches(['.', '-']).chars().map(safe).collect()
}

/// The certificates in a file: PEM blocks, or one in DER.
fn decode(bytes: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if is_certificate(bytes) {
        return Ok(vec![bytes.to_vec()]);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "is neither PEM nor a certificate in DER".to_owned())?;
    let mut certificates = Vec::new();
    for block in pem::blocks(text) {
        if block.label != LABEL {
            return Err(format!("holds `{}`, not only certificates", block.label));
        }
        match block.der {
            Ok(der) if is_certificate(&der) => certificates.push(der),
            Ok(_) => return Err("holds a damaged certificate".to_owned()),
            Err(cause) => return Err(format!("holds a damaged certificate: {cause}")),
        }
    }
    if certificates.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(certificates) }
}

/// The outer form of RFC 5280: a sequence of what is signed, the algorithm and the signature.
fn is_certificate(der: &[u8]) -> bool {
    let Ok(outer) = AnyRef::from_der(der) else { return false };
    let Ok(mut reader) = SliceReader::new(outer.value()) else { return false };
    let mut next = || reader.decode::<AnyRef<'_>>().ok().map(|member| member.tag());
    let shape = [next(), next(), next()];
    outer.tag() == Tag::Sequence
        && shape == [Some(Tag::Sequence), Some(Tag::Sequence), Some(Tag::BitString)]
        && reader.is_finished()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// Runs `line` in a new folder.
    fn folder(line: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let make = "make() { openssl req -x509 -newkey rsa:1024 -nodes -keyout /dev/null -subj /CN=$1 -out \"$2\" 2>/dev/null; }";
        let status =
            Command::new("bash").args(["-ec", &format!("{make}; {line}")]).current_dir(&folder).status().unwrap();
        assert!(status.success());
        folder
    }

    fn names(found: &Certificates) -> Vec<&str> {
        found.certificates.iter().map(|certificate| certificate.name.as_str()).collect()
    }

    #[test]
    fn certificates_are_sorted_named_safely_and_taken_once() {
        let folder = folder(
            "mkdir site other; make one 'site/my root;.crt'; make two two.crt; make three other/two.crt
             cp two.crt other/same.crt; cat two.crt other/two.crt > zz.crt
             (echo '# bundle'; cat two.crt; make four four.pem; sed 's/$/\\r/' four.pem) > a-bundle.crt; rm four.pem
             make five five.pem; openssl x509 -in five.pem -outform DER -out five.cer; rm five.pem; echo > notes.txt",
        );
        let found = collect(&[folder.path(), Path::new("/no/such/folder")], &[]).unwrap();
        assert_eq!(names(&found), ["a-bundle-1.crt", "a-bundle-2.crt", "five.crt", "my_root_.crt", "two.crt"]);
        assert!(found.passed_over.is_empty());
        for certificate in &found.certificates {
            assert!(certificate.pem.starts_with("-----BEGIN CERTIFICATE-----\n") && !certificate.pem.contains('\r'));
        }
    }

    #[test]
    fn names_stay_unique() {
        let folder = folder("mkdir a b; make one a/root.crt; make two b/root.crt");
        assert_eq!(names(&collect(&[folder.path()], &[]).unwrap()), ["root-2.crt", "root.crt"]);
    }

    #[test]
    fn what_is_no_certificate_is_passed_over_in_a_folder_and_refused_as_an_option() {
        let folder = folder(
            "openssl genpkey -algorithm ed25519 -out key.crt; echo hello > text.crt; head -c 99 /dev/zero > zero.crt
             make one one.pem; sed 3d one.pem > damaged.crt; rm one.pem; : > empty.crt",
        );
        let found = collect(&[folder.path()], &[]).unwrap();
        assert_eq!((found.certificates.len(), found.passed_over.len()), (0, 5), "{:?}", found.passed_over);
        assert!(found.passed_over[2].ends_with("key.crt: holds `PRIVATE KEY`, not only certificates"));
        for file in ["key.crt", "text.crt", "zero.crt", "damaged.crt", "empty.crt", "missing.crt"] {
            let error = collect::<PathBuf>(&[], &[folder.path().join(file)]).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(file), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "(-----(BEGIN|END) CERTIFICATE-----|\n|[A-Za-z=]{0,8}){0,12}") {
            prop_assert!(decode(&bytes).is_err());
            let _ = decode(text.as_bytes());
        }
    }
}
