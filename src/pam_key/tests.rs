use std::path::PathBuf;
use std::process::{Command, Output};

use proptest::prelude::*;

use super::*;

/// A folder in which shell lines run and keys are checked.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn try_sh(&self, line: &str) -> Output {
        Command::new("bash").args(["-ec", line]).current_dir(&self.folder).output().unwrap()
    }

    fn sh(&self, line: &str) {
        let output = self.try_sh(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Result<PamKey> {
        read(&self.path(name), false)
    }

    /// A pair of `bits` bits: `private.pem` and `key.pem`.
    fn pair(&self, bits: usize) {
        self.sh(&format!(
            "openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out private.pem 2>/dev/null || \
             openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out private.pem 2>/dev/null
             openssl pkey -in private.pem -pubout -out key.pem"
        ));
    }
}

/// The refusal's sentence and the first command in backticks of its hint.
fn refused(result: Result<PamKey>) -> (String, String) {
    let error = result.expect_err("the file is no key");
    assert_eq!(error.kind(), Kind::Usage);
    let hint = error.hints().first().expect("there is a hint").clone();
    let command = hint.split('`').nth(1).unwrap_or_default().to_owned();
    (error.to_string(), command)
}

#[test]
fn sizes_are_those_that_were_measured() {
    // Bits, characters of the PEM, token for a login of 9 characters (measured with openssl and xrdp).
    for (bits, pem_chars, token) in [(512, 182, 109), (768, 223, 149), (896, 247, 173), (1024, 272, 193)] {
        let bench = Bench::new();
        bench.pair(bits);
        let key = bench.read("key.pem").unwrap();
        assert_eq!((key.bits, key.pem_chars, key.token_length(9)), (bits, pem_chars, token));
        assert_eq!(key.form, Form::Spki);
        let warned = key.notes.iter().any(|note| note.level == Level::Warning && note.text.contains("factored"));
        assert_eq!(warned, bits < 1024, "{bits}");
        assert_eq!(key.notes.iter().any(|note| note.text.contains("`pamPublicKey`")), bits == 1024, "{bits}");
    }
}

#[test]
fn a_token_that_xrdp_refuses_is_refused_unless_insisted() {
    let bench = Bench::new();
    bench.pair(2048);
    let (sentence, command) = refused(bench.read("key.pem"));
    assert!(sentence.contains("388 characters, 776 bytes"), "{sentence}");
    bench.sh(&command);
    bench.read("public.pem").unwrap();
    let key = read(&bench.path("key.pem"), true).unwrap();
    assert_eq!(key.longest_login(), None);
    assert!(key.notes[0].text.ends_with("no login by RDP will work with it"), "{:?}", key.notes);
}

#[test]
fn a_size_that_serves_only_short_logins_is_a_warning() {
    let bench = Bench::new();
    bench.pair(1280);
    let key = bench.read("key.pem").unwrap();
    assert_eq!(key.longest_login(), Some(27));
    assert!(key.notes[0].text.contains("only logins of up to 27 characters"), "{:?}", key.notes);
    assert!(key.token_length(27) * 2 < PASSWORD_LIMIT && key.token_length(28) * 2 >= PASSWORD_LIMIT);
    assert_eq!(longest_login(1440), Some(3));
    assert_eq!(longest_login(1448), None);
}

#[test]
fn the_shapes_that_openssl_reads_are_accepted() {
    let bench = Bench::new();
    bench.pair(1024);
    let plain = std::fs::read_to_string(bench.path("key.pem")).unwrap();
    bench.sh("openssl rsa -in private.pem -RSAPublicKey_out -out pkcs1.pem
         sed 's/$/\\r/' key.pem > crlf.pem
         printf %s \"$(cat key.pem)\" > unended.pem
         { echo 'key of the VISA server'; cat key.pem; } > preamble.pem
         { head -1 key.pem; sed '1d;$d' key.pem | tr -d '\\n' | fold -w 76; echo; tail -1 key.pem; } > wide.pem
         for file in crlf unended preamble wide; do openssl pkey -pubin -in $file.pem -noout; done");
    assert_eq!(bench.read("pkcs1.pem").unwrap().form, Form::Pkcs1);
    for file in ["crlf.pem", "unended.pem", "preamble.pem", "wide.pem"] {
        let key = bench.read(file).unwrap();
        assert_eq!((key.pem.as_str(), key.form), (plain.as_str(), Form::Spki), "{file}");
    }
}

/// What makes the file, its name, what the refusal calls it; the hint's command must make an accepted key.
const CONVERTIBLE: [(&str, &str, &str); 15] = [
    ("true", "private.pem", "is a private key (PKCS#8)"),
    ("openssl rsa -in private.pem -traditional -out f", "f", "is a private key (PKCS#1)"),
    ("cat key.pem private.pem > f", "f", "is a private key (PKCS#8)"),
    ("cp private.pem 'a key; with blanks'", "a key; with blanks", "is a private key (PKCS#8)"),
    ("cp private.pem f; chmod 600 f; ssh-keygen -q -p -N '' -f f", "f", "is a private key of OpenSSH"),
    ("ssh-keygen -y -f private.pem > f", "f", "is an SSH public key"),
    ("ssh-keygen -y -f private.pem > s; ssh-keygen -e -m RFC4716 -f s > f", "f", "is an SSH public key (RFC 4716)"),
    ("openssl req -new -x509 -key private.pem -subj /CN=visa -out f", "f", "is a certificate,"),
    ("openssl req -new -key private.pem -subj /CN=visa -out f", "f", "is a certificate request,"),
    ("openssl pkey -pubin -in key.pem -outform DER -out f", "f", "is a public key in DER,"),
    ("openssl rsa -in private.pem -RSAPublicKey_out -outform DER -out f", "f", "is a public key in DER (PKCS#1)"),
    ("openssl pkcs8 -topk8 -nocrypt -in private.pem -outform DER -out f", "f", "is a private key in DER (PKCS#8)"),
    ("openssl rsa -in private.pem -traditional -outform DER -out f", "f", "is a private key in DER (PKCS#1)"),
    ("openssl req -new -x509 -key private.pem -subj /CN=visa -outform DER -out f", "f", "is a certificate in DER"),
    ("openssl req -new -key private.pem -subj /CN=visa -outform DER -out f", "f", "is a certificate request in DER"),
];

#[test]
fn what_holds_the_key_is_named_and_its_command_makes_the_key() {
    let bench = Bench::new();
    bench.pair(1024);
    let expected = bench.read("key.pem").unwrap();
    for (make, file, name) in CONVERTIBLE {
        bench.sh(&format!("rm -f f s public.*; {make}"));
        let (sentence, command) = refused(bench.read(file));
        assert!(sentence.contains(name), "{make}: {sentence}");
        bench.sh(&command);
        assert_eq!(bench.read("public.pem").unwrap().pem, expected.pem, "{make}: {command}");
    }
}

#[test]
fn an_encrypted_private_key_is_named_and_its_command_asks_for_the_passphrase() {
    let bench = Bench::new();
    bench.pair(1024);
    bench.sh("openssl pkey -in private.pem -aes256 -passout pass:secret -out f");
    let (sentence, command) = refused(bench.read("f"));
    assert!(sentence.contains("is an encrypted private key (PKCS#8)"), "{sentence}");
    bench.sh(&format!("{command} -passin pass:secret"));
    bench.read("public.pem").unwrap();
}

#[test]
fn keys_that_visa_cannot_sign_with_are_refused() {
    let bench = Bench::new();
    let cases = [
        (
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p; openssl pkey -in p -pubout",
            "an elliptic-curve public",
        ),
        ("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "an elliptic-curve private"),
        ("openssl ecparam -name prime256v1 -genkey", "a private key on an elliptic curve"),
        ("openssl genpkey -algorithm ed25519 -out p; openssl pkey -in p -pubout", "an Ed25519 public"),
        ("openssl genpkey -algorithm ed25519 -outform DER", "an Ed25519 private"),
        ("openssl genpkey -algorithm x25519 -out p; openssl pkey -in p -pubout", "an X25519"),
        (
            "openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:1024 -out p 2>/dev/null; openssl pkey -in p -pubout",
            "an RSA-PSS public",
        ),
        ("rm -f p p.pub; ssh-keygen -q -t ed25519 -N '' -f p; cat p.pub", "type `ssh-ed25519`"),
        ("head -c 300 /dev/zero", "a binary file of an unknown kind"),
        ("printf '{\"kty\": \"RSA\"}'", "is not a PEM public key"),
        ("printf ' \\n'", "is empty"),
        ("true", "is empty"),
        ("head -c 70000 /dev/zero | tr '\\0' a", "is too large"),
    ];
    for (make, name) in cases {
        bench.sh(&format!("({make}) > f"));
        let (sentence, command) = refused(bench.read("f"));
        assert!(sentence.contains(name), "{make}: {sentence}");
        assert!(command.starts_with("openssl genpkey -algorithm RSA"), "{make}: {command}");
    }
}

#[test]
fn damaged_keys_are_refused_with_the_damage() {
    let bench = Bench::new();
    bench.pair(1024);
    for (make, name) in [
        ("head -3 key.pem", "its end is missing"),
        ("sed 2d key.pem", "is a damaged public key"),
        ("sed '2s/.$/!/' key.pem", "is a damaged public key"),
        ("printf -- '-----BEGIN PUBLIC KEY-----\\n-----END PUBLIC KEY-----\\n'", "not base64"),
        ("echo $(cat key.pem)", "not on a line of its own"),
        ("sed 's/^/  /' key.pem", "not on a line of its own"),
        ("cat key.pem key.pem", "holds several keys"),
        ("iconv -f UTF-8 -t UTF-16 key.pem", "is in UTF-16"),
    ] {
        bench.sh(&format!("{make} > f"));
        let (sentence, _) = refused(bench.read("f"));
        assert!(sentence.contains(name), "{make}: {sentence}");
    }
}

#[test]
fn a_missing_file_and_a_folder_say_which_option_to_give() {
    let bench = Bench::new();
    bench.sh("mkdir folder");
    for (file, reason) in [("none", "No such file"), ("folder", "is a folder")] {
        let error = bench.read(file).unwrap_err();
        assert!(error.chain().join(": ").contains(reason), "{:?}", error.chain());
        assert!(error.hints()[0].contains("-pp/--pam-public"), "{:?}", error.hints());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(check(Path::new("key"), &bytes, false).is_err());
    }

    #[test]
    fn any_block_is_judged_without_a_panic(
        label in "(RSA )?(PUBLIC|PRIVATE) KEY|CERTIFICATE",
        der in proptest::collection::vec(any::<u8>(), 0..200),
        tail in "\\PC{0,20}",
    ) {
        let pem = pem_rfc7468::encode_string(&label, pem_rfc7468::LineEnding::LF, &der).unwrap();
        let _ = check(Path::new("key"), format!("{pem}{tail}").as_bytes(), true);
        let _ = check(Path::new("key"), &[&[0x30, 0x82, 0, 4][..], &der].concat(), true);
    }

    #[test]
    fn the_longest_login_is_the_longest(bits in 496_usize..=1440) {
        let longest = longest_login(bits).unwrap();
        prop_assert!(token_length(bits, longest) * 2 < PASSWORD_LIMIT);
        prop_assert!(token_length(bits, longest + 1) * 2 >= PASSWORD_LIMIT);
    }
}
