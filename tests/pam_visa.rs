//! The VISA PAM module as it is shipped, through the real Linux-PAM with the shipped stack; statements PAM-1 to
//! PAM-9 and PAM-14 of the VISA image contract. Needs a C compiler, make, openssl and the headers of PAM and OpenSSL.

#![allow(clippy::unwrap_used)] // in the helper functions, too, a failure is a failed test

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

/// Linux-PAM's numbers, security/_pam_types.h.
const PAM_SUCCESS: i32 = 0;
const PAM_AUTH_ERR: i32 = 7;
const PAM_AUTHINFO_UNAVAIL: i32 = 9;

/// The module as it is shipped, and the program that logs in through it; built once for all tests.
static SHIPPED: LazyLock<PathBuf> = LazyLock::new(|| build("pam_visa", &[]));

/// Both with sanitizers; the module then refers to symbols that only the program defines.
static SANITIZED: LazyLock<PathBuf> =
    LazyLock::new(|| build("pam_visa_sanitized", &["CFLAGS=-fsanitize=address,undefined", "LDFLAGS=-Wl,-z,undefs"]));

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/visa-base/pam_visa")
}

fn run(program: &str, folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; `scripts/test` installs what the tests need"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs it, expects success, returns its standard output.
fn output(program: &str, folder: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let output = run(program, folder, args, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let missing = ["security/", "openssl/"].iter().any(|header| stderr.contains(&format!("fatal error: {header}")));
    assert!(!missing, "libpam0g-dev and libssl-dev are needed; `scripts/test` installs them\n{stderr}");
    assert!(output.status.success(), "{program} {args:?}: {}\n{stderr}", output.status);
    output.stdout
}

fn make(folder: &Path, args: &[&str]) {
    let makefile = source().join("Makefile");
    output("make", folder, &[&["--silent", "--file", makefile.to_str().unwrap()], args].concat(), b"");
}

fn build(name: &str, variables: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    make(&folder, &[&["pam_visa.so", "pam_login"], variables].concat());
    folder
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A private PAM configuration with the module, its stack, a key pair and some accounts.
struct Login {
    folder: TempDir,
    build: &'static Path,
}

/// What a login ended with.
#[derive(Debug, PartialEq)]
struct Outcome {
    authenticate: i32,
    setcred: i32,
    /// How many more files are open after several logins than after the first.
    files: i32,
}

impl Login {
    fn new(bits: u32) -> Self {
        Self::with_build(bits, &SHIPPED)
    }

    fn with_build(bits: u32, build: &'static Path) -> Self {
        let login = Self { folder: TempDir::new().unwrap(), build };
        login.new_key(bits, "private.pem");
        let public = output("openssl", login.path(), &["pkey", "-in", "private.pem", "-pubout"], b"");
        login.write("public.pem", &public);
        let accounts =
            ["root:x:0:0", "toor:x:0:0", "joebloggs:x:1000:1000", "joebloggs2:x:1001:1001", "joe:x:1002:1002"];
        let passwd = accounts.map(|account| format!("{account}::/:/bin/sh\n")).concat();
        login.write("passwd", passwd.as_bytes());
        login.write("other", b"auth required pam_deny.so\n");
        login.use_stack(&fs::read_to_string(source().join("xrdp-sesman.pam")).unwrap());
        login
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path().join(name), content).unwrap();
    }

    fn new_key(&self, bits: u32, name: &str) {
        let bits = format!("rsa_keygen_bits:{bits}");
        output("openssl", self.path(), &["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits, "-out", name], b"");
    }

    /// Installs a stack: this module and key in place of the guest's, without the distribution's common files.
    fn use_stack(&self, stack: &str) {
        let module = self.build.join("pam_visa.so");
        let key = self.path().join("public.pem");
        let stack: Vec<_> = stack.lines().filter(|line| !line.starts_with("@include")).collect();
        let stack = stack
            .join("\n")
            .replace("pam_visa.so", module.to_str().unwrap())
            .replace("/etc/visa/public.pem", key.to_str().unwrap());
        self.write("xrdp-sesman", format!("{stack}\n").as_bytes());
    }

    /// The module alone, with these arguments.
    fn use_arguments(&self, arguments: &str) {
        self.use_stack(&format!("auth required pam_visa.so {arguments}"));
    }

    fn signed(&self, payload: &str, key: &str) -> String {
        let signature = output("openssl", self.path(), &["dgst", "-sha256", "-sign", key], payload.as_bytes());
        let base64 = output("openssl", self.path(), &["base64", "-A"], &signature);
        format!("{payload};{}", String::from_utf8(base64).unwrap())
    }

    /// VISA's token for `user`, made `age` seconds ago.
    fn token(&self, user: &str, age: i64) -> String {
        self.signed(&format!("{user},{}", now() - age), "private.pem")
    }

    fn repeatedly(&self, user: &str, password: &str, times: u32) -> Outcome {
        let client = self.build.join("pam_login");
        let (confdir, times) = (self.path().to_str().unwrap(), times.to_string());
        let args = [confdir, "xrdp-sesman", user, &times];
        let line = output(client.to_str().unwrap(), self.path(), &args, password.as_bytes());
        let numbers: Vec<i32> = String::from_utf8(line)
            .unwrap()
            .split_whitespace()
            .map(|field| field.split_once('=').unwrap().1.parse().unwrap())
            .collect();
        Outcome { authenticate: numbers[0], setcred: numbers[1], files: numbers[2] }
    }

    fn attempt(&self, user: &str, password: &str) -> i32 {
        self.repeatedly(user, password, 1).authenticate
    }
}

#[test]
fn unit_tests_of_the_token_pass_under_sanitizers() {
    let folder = TempDir::new().unwrap();
    make(folder.path(), &["test"]);
}

#[test]
fn the_parser_survives_fuzzing() {
    let folder = TempDir::new().unwrap();
    make(folder.path(), &["fuzz"]);
    let corpus = source().join("test/corpus");
    let fuzz = folder.path().join("fuzz_token");
    let stdout = output(fuzz.to_str().unwrap(), folder.path(), &[corpus.to_str().unwrap(), "200000"], b"");
    assert!(String::from_utf8(stdout).unwrap().ends_with("200000 mutations passed\n"));
}

#[test]
fn the_module_exports_nothing_but_its_service_functions() {
    let symbols = output("nm", &SHIPPED, &["-D", "--defined-only", "--format=posix", "pam_visa.so"], b"");
    let symbols = String::from_utf8(symbols).unwrap();
    let names: Vec<_> = symbols.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["pam_sm_authenticate", "pam_sm_setcred"]);
}

#[test]
fn it_is_installed_where_pam_searches() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("root");
    make(folder.path(), &["install", &format!("DESTDIR={}", root.display())]);
    let installed = output("find", &root, &[".", "-name", "pam_visa.so"], b"");
    let installed = String::from_utf8(installed).unwrap();
    let beside = Path::new("/").join(installed.trim_end()).with_file_name("pam_deny.so");
    assert!(beside.exists(), "{installed} is not beside pam_deny.so");
}

#[test]
fn a_fresh_token_is_accepted_again_and_again() {
    let login = Login::new(768);
    let token = login.token("joebloggs", 0);
    let accepted = Outcome { authenticate: PAM_SUCCESS, setcred: PAM_SUCCESS, files: 0 };
    assert_eq!(login.repeatedly("joebloggs", &token, 1), accepted);
    assert_eq!(login.repeatedly("joebloggs", &token, 20), accepted);
}

#[test]
fn a_token_is_good_for_sixty_seconds_either_way() {
    let login = Login::new(768);
    let cases =
        [(55, PAM_SUCCESS), (65, PAM_AUTH_ERR), (-55, PAM_SUCCESS), (-65, PAM_AUTH_ERR), (-86_400, PAM_AUTH_ERR)];
    for (age, expected) in cases {
        assert_eq!(login.attempt("joebloggs", &login.token("joebloggs", age)), expected, "{age} s old");
    }
}

#[test]
fn the_age_is_an_argument_and_sixty_without() {
    let login = Login::new(768);
    let cases =
        [("", 55, 0), ("", 65, 7), ("", -65, 7), ("120", 115, 0), ("120", 125, 7), ("120", -125, 7), ("5", 10, 7)];
    for (argument, age, expected) in cases {
        login.use_arguments(&format!("/etc/visa/public.pem {argument}"));
        assert_eq!(login.attempt("joebloggs", &login.token("joebloggs", age)), expected, "`{argument}`, {age} s old");
    }
}

#[test]
fn wrong_arguments_let_nobody_in() {
    let login = Login::new(768);
    let key = "/etc/visa/public.pem";
    for arguments in ["", &format!("{key} 0"), &format!("{key} -1"), &format!("{key} 60s"), &format!("{key} 60 debug")]
    {
        login.use_arguments(arguments);
        let expected = PAM_AUTHINFO_UNAVAIL;
        assert_eq!(login.attempt("joebloggs", &login.token("joebloggs", 0)), expected, "`{arguments}`");
    }
}

#[test]
fn a_token_is_for_its_user_alone() {
    let login = Login::new(768);
    // `joe` is the beginning of `joebloggs`, which is the beginning of `joebloggs2`.
    for user in ["joe", "joebloggs2"] {
        assert_eq!(login.attempt(user, &login.token("joebloggs", 0)), PAM_AUTH_ERR, "as {user}");
        assert_eq!(login.attempt(user, &login.token(user, 0)), PAM_SUCCESS, "{user}'s own");
    }
}

#[test]
fn root_and_strangers_stay_out() {
    let login = Login::new(768);
    for user in ["root", "toor", "stranger", "joe,bloggs", "joe;bloggs", "jöe"] {
        assert_eq!(login.attempt(user, &login.token(user, 0)), PAM_AUTH_ERR, "{user}");
    }
}

#[test]
fn what_is_not_a_genuine_token_is_refused() {
    let login = Login::new(768);
    login.new_key(768, "other.pem");
    let time = now();
    let payload = format!("joebloggs,{time}");
    let good = login.signed(&payload, "private.pem");
    let (_, signature) = good.split_once(';').unwrap();
    let cases = [
        login.signed(&payload, "other.pem"),
        login.signed("joebloggs,soon", "private.pem"),
        login.signed(&format!("joebloggs, {time}"), "private.pem"),
        login.signed(&format!("joebloggs,{time},0"), "private.pem"),
        login.signed("joebloggs,18446744073709551616", "private.pem"),
        login.signed(&format!("joebloggs,{time}.0"), "private.pem"),
        format!("joebloggs,{};{signature}", time + 1),
        format!("{payload};"),
        format!("{good};"),
        format!("{good}\n"),
        format!("{good}AAAA"),
        good[..good.len() - 4].to_owned(),
        payload.clone(),
        "correct horse battery staple".to_owned(),
        String::new(),
        "joebloggs,1;".repeat(80),
    ];
    for token in cases {
        assert_eq!(login.attempt("joebloggs", &token), PAM_AUTH_ERR, "{token}");
    }
    assert_eq!(login.attempt("joebloggs", &good), PAM_SUCCESS);
}

#[test]
fn keys_of_every_usual_size_work() {
    for bits in [512, 768, 896, 1024, 2048] {
        let login = Login::new(bits);
        // Linux-PAM hands over 511 bytes (PAM_MAX_RESP_SIZE - 1), a token of RSA-2048 has 365.
        assert_eq!(login.attempt("joebloggs", &login.token("joebloggs", 0)), PAM_SUCCESS, "{bits} bits");
    }
}

#[test]
fn the_key_file_is_read_at_each_login_in_its_usual_forms() {
    let login = Login::new(768);
    let token = login.token("joebloggs", 0);
    let spki = fs::read_to_string(login.path().join("public.pem")).unwrap();
    let pkcs1 = output("openssl", login.path(), &["rsa", "-in", "private.pem", "-RSAPublicKey_out"], b"");
    let private = fs::read_to_string(login.path().join("private.pem")).unwrap();
    let pkcs1 = String::from_utf8(pkcs1).unwrap();
    assert!(pkcs1.starts_with("-----BEGIN RSA PUBLIC KEY-----"));
    let cases = [
        (spki.clone(), PAM_SUCCESS),
        (pkcs1, PAM_SUCCESS),
        (spki.replace('\n', "\r\n"), PAM_SUCCESS),
        (spki.trim_end().to_owned(), PAM_SUCCESS),
        (spki.replace('\n', " "), PAM_AUTH_ERR),
        (spki.replace('\n', "\\n"), PAM_AUTH_ERR),
        (private, PAM_AUTH_ERR),
        (String::new(), PAM_AUTH_ERR),
    ];
    for (pem, expected) in cases {
        login.write("public.pem", pem.as_bytes());
        assert_eq!(login.attempt("joebloggs", &token), expected, "{pem}");
    }
    fs::remove_file(login.path().join("public.pem")).unwrap();
    assert_eq!(login.attempt("joebloggs", &token), PAM_AUTH_ERR);
}

#[test]
fn logins_leave_nothing_behind() {
    // The leak detector of the address sanitizer turns a leak into a failure of pam_login.
    let login = Login::with_build(768, &SANITIZED);
    let good = login.repeatedly("joebloggs", &login.token("joebloggs", 0), 20);
    assert_eq!(good, Outcome { authenticate: PAM_SUCCESS, setcred: PAM_SUCCESS, files: 0 });
    let stale = login.repeatedly("joebloggs", &login.token("joebloggs", 100), 20);
    assert_eq!((stale.authenticate, stale.files), (PAM_AUTH_ERR, 0));
    login.write("public.pem", b"garbage");
    assert_eq!(login.repeatedly("joebloggs", &login.token("joebloggs", 0), 20).files, 0);
}
