//! Guests of at most one sector: machine code that the BIOS loads to 0x7c00 and starts in real mode. Assembled by
//! `as --32` after `.code16`.
#![allow(dead_code, clippy::unwrap_used)]

/// Writes "Kernel panic - not syncing: x" to the first serial port and halts: cld; ds = 0; si = text; dx = 0x3f8; lodsb
/// and out until a zero; jmp $.
pub const PANICS: &[u8] = b"\xfc\x31\xc0\x8e\xd8\xbe\x15\x7c\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xeb\xfe\
                            hello\r\nKernel panic - not syncing: x\r\n\0";

/// As [`PANICS`], with the prompt of initramfs-tools' shell.
pub const RESCUES: &[u8] = b"\xfc\x31\xc0\x8e\xd8\xbe\x15\x7c\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xeb\xfe\
                             Gave up waiting for root file system device.\r\n(initramfs) \0";

/// As [`PANICS`], with a prompt that somebody could answer.
pub const PROMPTS: &[u8] = b"\xfc\x31\xc0\x8e\xd8\xbe\x15\x7c\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\xeb\xfe\
                             hello\r\n\x1b[1mlogin: \0";

/// Fills the screen with blue (mode 13h, colour 1: 0, 0, 168), says "ready" on the first serial port, and then writes
/// each key to the screen and, on a line of its own, to the serial port (int 0x16, ah = 0); `q` powers off as
/// [`POWERS_OFF`] does.
pub const ECHOES: &[u8] =
    b"\xfc\x31\xc0\x8e\xd8\xb8\x13\x00\xcd\x10\xb8\x00\xa0\x8e\xc0\x31\xff\xb9\x00\xfa\xb0\x01\xf3\xaa\xbe\x4d\x7c\
      \xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8\x30\xe4\xcd\x16\xba\xf8\x03\xee\x3c\x71\x74\x0f\xb4\x0e\xbb\x0f\x00\xcd\x10\
      \xb0\x0a\xba\xf8\x03\xee\xeb\xe5\xb0\x0a\xee\xba\x04\x06\xb8\x00\x20\xef\xeb\xfeready\r\n\0";

/// Powers off by ACPI (PM1a control, port 0x604 of QEMU's q35).
pub const POWERS_OFF: &[u8] = b"\xba\x04\x06\xb8\x00\x20\xef\xeb\xfe";

/// Resets the machine by the keyboard controller.
pub const RESETS: &[u8] = b"\xb0\xfe\xe6\x64\xeb\xfe";

/// Writes a question to the screen by the BIOS (int 0x10, ah = 0x0e) until a zero, and halts.
pub const SITS: &[u8] =
    b"\xfa\xfc\x31\xc0\x8e\xd8\xbe\x1a\x7c\xac\x84\xc0\x74\x09\xb4\x0e\xbb\x07\x00\xcd\x10\xeb\xf2\xf4\
                          \xeb\xfdWhich keyboard? [us]: \0";

/// Changes three characters of the screen for ever: es = 0xb800; incw es:(0), es:(80), es:(700).
pub const DRAWS: &[u8] = b"\xb8\x00\xb8\x8e\xc0\x26\xff\x06\x00\x00\x26\xff\x06\x50\x00\x26\xff\x06\xbc\x02\xeb\xef";

/// Reads the first sector for ever (int 0x13, ah = 2).
pub const READS: &[u8] = b"\xb8\x01\x02\xb9\x01\x00\xba\x80\x00\x31\xdb\x8e\xc3\xb7\x7e\xcd\x13\xeb\xed";

/// Writes a line to the first serial port at every tick of the BIOS's clock (0x46c).
pub const SAYS: &[u8] =
    b"\xba\xf8\x03\xb0\x78\xee\xb0\x0a\xee\xbb\x6c\x04\x31\xc0\x8e\xd8\x8b\x07\x3b\x07\x74\xfc\xeb\xeb";

/// Takes the network card as a legacy driver does (PCI BIOS: find 1af4:1000, read BAR 0; virtio 1.2, section 4.1.4.8:
/// device status 7 at offset 0x12), and halts without sending anything.
pub const TAKES_NETWORK: &[u8] =
    b"\xfa\xfc\xb8\x02\xb1\xb9\x00\x10\xba\xf4\x1a\x31\xf6\xcd\x1a\xb8\x0a\xb1\xbf\x10\x00\xcd\x1a\
                                   \x83\xe1\xfc\x89\xca\x83\xc2\x12\xb0\x07\xee\xf4\xeb\xfd";

/// Repeats what is typed (int 0x16, int 0x10) and writes each line to the first serial port; a `>` there says that it
/// listens. Backspace takes back a character. So many `x` as the byte at [`DROPS`] says are lost.
const TYPES: &[u8] = b"\xfc\x31\xc0\x8e\xd8\x8e\xc0\xba\xf8\x03\xb0\x3e\xee\xe8\x54\x00\xbf\x00\x7e\x31\xc0\xcd\x16\
                       \x3c\x0d\x74\x31\x3c\x08\x74\x17\x3c\x78\x75\x0d\x80\x3e\xfd\x7d\x00\x74\x06\xfe\x0e\xfd\x7d\
                       \xeb\xe3\xaa\xe8\x30\x00\xeb\xdd\x81\xff\x00\x7e\x74\xd7\x4f\xe8\x24\x00\xb0\x20\xe8\x1f\x00\
                       \xb0\x08\xe8\x1a\x00\xeb\xc7\xe8\x15\x00\xb0\x0a\xe8\x10\x00\xbe\x00\x7e\x39\xfe\x74\x04\xac\xee\
                       \xeb\xf8\xb0\x0a\xee\xeb\xa6\xb4\x0e\xbb\x07\x00\xcd\x10\xc3";

/// Where [`TYPES`] keeps how many keys it will lose.
const DROPS: usize = 509;

/// A disk whose guest loses the first `drops` keys `x` that are typed, and repeats all others.
pub fn loses(drops: u8) -> Vec<u8> {
    let mut image = disk(TYPES);
    image[DROPS] = drops;
    image
}

/// A disk of one MiB that begins with `code`; without any it has nothing to boot.
pub fn disk(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0; 1 << 20];
    image[..code.len()].copy_from_slice(code);
    if !code.is_empty() {
        image[510..512].copy_from_slice(b"\x55\xaa");
    }
    image
}
