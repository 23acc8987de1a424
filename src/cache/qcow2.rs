//! The first bytes of a qcow2, read without qemu-img: is it one, and on which file does it lie?
//!
//! Format: docs/interop/qcow2.rst of QEMU, section "Header". Numbers are big-endian: the magic at 0, the version
//! at 4, where the name of the backing file begins at 8 (8 bytes, 0 for none), its length at 16 (at most 1023).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// The magic number, `QFI\xfb`.
const MAGIC: [u8; 4] = [b'Q', b'F', b'I', 0xfb];

/// Longest name of a backing file that the format knows, bytes.
const LONGEST_NAME: usize = 1023;

/// What the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The file that it lies on.
    pub(super) backing: Option<PathBuf>,
}

impl Header {
    /// Reads it; none if the file is no qcow2.
    ///
    /// # Errors
    /// The file cannot be read, or ends within its header.
    pub(super) fn read(file: &File) -> io::Result<Option<Self>> {
        let mut head = [0; 20];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        if head[..4] != MAGIC {
            return Ok(None);
        }
        let [offset, length] = [number(&head[8..16]), number(&head[16..20])];
        if offset == 0 {
            return Ok(Some(Self { backing: None }));
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST_NAME);
        let length = length.ok_or_else(|| io::Error::other("the name of its backing file is too long"))?;
        let mut name = vec![0; length];
        file.read_exact_at(&mut name, offset)?;
        let name = String::from_utf8(name).map_err(|_| io::Error::other("its backing file has no usable name"))?;
        Ok(Some(Self { backing: Some(PathBuf::from(name)) }))
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// The beginning of a qcow2 that lies on `backing`, which is all that is read here.
    pub(in crate::cache) fn header(backing: Option<&str>) -> Vec<u8> {
        let name = backing.unwrap_or_default();
        let offset: u64 = if backing.is_some() { 104 } else { 0 };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(3_u32.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
        bytes.resize(104, 0);
        bytes.extend(name.as_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> io::Result<Option<Header>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Header::read(&file)
    }

    #[test]
    fn the_backing_file_is_told_and_other_files_are_no_qcow2() {
        assert_eq!(read(&header(None)).unwrap(), Some(Header { backing: None }));
        let on = read(&header(Some("/cache/a.qcow2"))).unwrap().unwrap();
        assert_eq!(on.backing.unwrap().to_str(), Some("/cache/a.qcow2"));
        assert_eq!(read(b"").unwrap(), None);
        assert_eq!(read(&[0; 512]).unwrap(), None);
    }

    #[test]
    fn a_torn_header_is_an_error_and_no_panic() {
        assert!(read(&header(Some("/cache/a.qcow2"))[..108]).is_err());
        let mut long = header(Some("x"));
        long[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(read(&long).is_err());
    }
}
