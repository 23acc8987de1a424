//! The first boot's scripts in a private root folder: names, keys, and that a second run changes nothing; statements
//! META-1, META-2, META-5, BOOT-2 to BOOT-5 of the VISA image contract. Needs bash, jq, openssl and useradd.

#![allow(clippy::unwrap_used)] // in the helper functions, too, a failure is a failed test

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A root folder for the scripts, and programs that stand in for those that would change this system.
struct Instance {
    root: TempDir,
}

impl Instance {
    fn new(meta_data: &Value) -> Self {
        let instance = Self { root: TempDir::new().unwrap() };
        for folder in ["etc/visa", "etc/default", "home", "run/cloud-init", "var/lib/cloud/instance", "bin"] {
            fs::create_dir_all(instance.path(folder)).unwrap();
        }
        let accounts = "root:x:0:0::/root:/bin/sh\nxrdp:x:110:110::/run:/bin/false\nnobody:x:65534:65534::/:/bin/false\n\
                        alice:x:1500:1500::/nfs/alice:/bin/bash\n";
        instance.write("etc/passwd", accounts);
        instance.write("etc/shadow", "");
        instance.write("etc/group", "root:x:0:\naudio:x:29:\n");
        instance.write("etc/gshadow", "");
        instance.write("etc/login.defs", "UID_MIN 1000\nGID_MIN 1000\nPASS_MAX_DAYS 90\nCREATE_HOME yes\n");
        instance.write("etc/nsswitch.conf", "passwd:         files systemd\n");
        // Both get `--`, the name, and look at the private root's files; useradd is the real one.
        instance.program("getent", r#"grep -- "^$3:" "$VISA_ROOT/etc/$1""#);
        instance.program("useradd", r#"exec /usr/sbin/useradd --prefix "$VISA_ROOT" "$@""#);
        instance.program("systemctl", r#"echo "$*" >>"$VISA_ROOT/systemctl.log""#);
        // A second of waiting is a line, and after three lines the owner appears.
        instance.program(
            "sleep",
            r#"echo "$1" >>"$VISA_ROOT/sleep.log"
            [ "$(wc -l <"$VISA_ROOT/sleep.log")" -lt 3 ] || eval "$ON_THIRD_SLEEP""#,
        );
        instance.metadata(meta_data);
        instance
    }

    /// An instance as Nova describes it: its metadata below `meta`.
    fn with_meta(meta: &Value) -> Self {
        Self::new(&json!({ "uuid": "4a1c", "instance-id": "4a1c", "meta": meta }))
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.path().join(relative)
    }

    fn write(&self, relative: &str, content: &str) {
        fs::write(self.path(relative), content).unwrap();
    }

    fn read(&self, relative: &str) -> Option<String> {
        fs::read_to_string(self.path(relative)).ok()
    }

    fn program(&self, name: &str, body: &str) {
        let file = format!("bin/{name}");
        self.write(&file, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(self.path(&file), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn metadata(&self, meta_data: &Value) {
        let data = json!({ "ds": { "meta_data": meta_data }, "v1": {} });
        self.write("run/cloud-init/instance-data.json", &data.to_string());
    }

    fn script(&self, name: &str, on_third_sleep: &str) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/visa-base/first-boot").join(name);
        let path = format!("{}:{}:/usr/sbin", self.path("bin").display(), std::env::var("PATH").unwrap());
        // useradd gives the home away: outside of root that needs a user namespace with more than one user.
        let mut command = if rustix::process::geteuid().is_root() {
            Command::new("bash")
        } else {
            let mut unshare = Command::new("unshare");
            unshare.args(["--map-root-user", "--map-auto", "bash"]);
            unshare
        };
        command
            .arg(script)
            .env("PATH", path)
            .env("VISA_ROOT", self.root.path())
            .env("ON_THIRD_SLEEP", on_third_sleep)
            .output()
            .unwrap()
    }

    /// Runs setup-owner, which must succeed; returns what it logged.
    fn boot(&self) -> String {
        self.boot_with("exit 1")
    }

    fn boot_with(&self, on_third_sleep: &str) -> String {
        let output = self.script("setup-owner", on_third_sleep);
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{}\n{log}", output.status);
        log
    }

    fn account(&self, name: &str) -> Option<String> {
        let passwd = self.read("etc/passwd").unwrap();
        passwd.lines().find(|line| line.split(':').next() == Some(name)).map(str::to_owned)
    }

    fn owner_is_announced(&self) -> bool {
        self.read("systemctl.log").is_some_and(|log| log == "--no-block start visa-owner.target\n")
    }
}

fn openssl(args: &[&str], input: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, input).unwrap();
    let output = Command::new("openssl").args(args).stdin(fs::File::open(&file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn private_key() -> String {
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:768"], "")
}

fn public_key() -> String {
    openssl(&["pkey", "-pubout"], &private_key())
}

#[test]
fn the_owner_gets_an_account_and_visa_its_key() {
    let key = public_key();
    let instance = Instance::with_meta(&json!({ "owner": "joebloggs", "id": "1234", "pamPublicKey": key }));
    instance.boot();
    let account = instance.account("joebloggs").unwrap();
    assert!(account.ends_with("::/home/joebloggs:/bin/bash"), "{account}");
    assert!(instance.path("home/joebloggs").is_dir());
    let shadow = instance.read("etc/shadow").unwrap();
    let fields: Vec<_> = shadow.lines().last().unwrap().split(':').collect();
    assert_eq!(fields[..2], ["joebloggs", "*"]);
    assert!(["", "-1"].contains(&fields[4]), "the password expires after {} days", fields[4]);
    assert_eq!(fields[6..8], ["", ""], "the account expires");
    assert_eq!(instance.read("etc/visa/public.pem").unwrap(), key);
    assert_eq!(fs::metadata(instance.path("etc/visa/public.pem")).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(instance.read("run/visa/instance.env").unwrap(), "OWNER=joebloggs\nINSTANCE_ID=1234\n");
    assert!(instance.owner_is_announced());
}

#[test]
fn a_second_boot_changes_nothing() {
    let instance = Instance::with_meta(&json!({ "owner": "joebloggs", "id": "1", "pamPublicKey": public_key() }));
    instance.boot();
    let before = (instance.read("etc/passwd"), instance.read("etc/shadow"), instance.read("etc/group"));
    let inode = fs::metadata(instance.path("etc/visa/public.pem")).unwrap().ino();
    assert_eq!(instance.boot(), "");
    assert_eq!((instance.read("etc/passwd"), instance.read("etc/shadow"), instance.read("etc/group")), before);
    assert_eq!(fs::metadata(instance.path("etc/visa/public.pem")).unwrap().ino(), inode);
    assert!(!instance.path("etc/visa/public.pem.new").exists());
}

#[test]
fn metadata_come_in_several_shapes() {
    let shapes = [
        json!({ "meta": { "owner": "joebloggs", "id": "77" } }),
        json!({ "meta": { "owner": "joebloggs", "id": 77 } }),
        json!({ "owner": "joebloggs", "id": "77" }),
        json!({ "meta": { "id": "77" }, "owner": "joebloggs" }),
        json!({ "meta": null, "owner": "joebloggs", "id": 77 }),
        json!({ "meta": "text", "owner": "joebloggs", "id": 77 }),
    ];
    for shape in shapes {
        let instance = Instance::new(&shape);
        instance.boot();
        assert_eq!(
            instance.read("run/visa/instance.env").as_deref(),
            Some("OWNER=joebloggs\nINSTANCE_ID=77\n"),
            "{shape}"
        );
    }
}

#[test]
fn without_an_owner_nothing_happens() {
    let shapes = [json!({ "meta": {} }), json!({}), json!(null), json!({ "meta": { "owner": "" } }), json!([1])];
    for shape in shapes {
        let instance = Instance::new(&shape);
        assert_eq!(instance.boot(), "<6>the metadata names no owner: nothing to do\n", "{shape}");
        assert!(!instance.path("run/visa").exists() && !instance.owner_is_announced());
    }
    let instance = Instance::with_meta(&json!({}));
    fs::remove_file(instance.path("run/cloud-init/instance-data.json")).unwrap();
    assert_eq!(instance.boot(), "<6>no cloud-init metadata: nothing to do\n");
}

#[test]
fn login_names_are_accepted() {
    for name in ["joebloggs", "a.b-c_1", "_x", "2fast", "J", "abcdefghijklmnopqrstuvwxyz012345"] {
        let instance = Instance::with_meta(&json!({ "owner": name, "id": "1" }));
        let log = instance.boot();
        assert!(instance.account(name).is_some(), "{name}: {log}");
        assert!(instance.path("home").join(name).is_dir());
    }
}

#[test]
fn what_is_no_login_name_is_refused() {
    let names = [
        "joe bloggs",
        "joe,bloggs",
        "joe;id",
        "joe:0",
        "$(id)",
        "`id`",
        "joe|id",
        "joe&",
        "joe>x",
        "joe'x",
        "joe\"x",
        "joe*",
        "joe?",
        "joe\\x",
        "joe\nroot",
        "joe\u{0}root;",
        "-joe",
        "--help",
        ".",
        "..",
        ".joe",
        "../joe",
        "/etc",
        "joe/..",
        "~joe",
        "+joe",
        "joe@site",
        "jöe",
        "1000",
        "0",
        "1.5",
        "abcdefghijklmnopqrstuvwxyz0123456",
    ];
    for name in names {
        let instance = Instance::with_meta(&json!({ "owner": name, "id": "1" }));
        let before = instance.read("etc/passwd");
        let log = instance.boot();
        assert!(log.starts_with("<3>the owner ") && log.ends_with("is not a login name: refused\n"), "{name:?}: {log}");
        assert_eq!(log.lines().count(), 1, "a name with a line break must not make lines: {log}");
        assert_eq!(instance.read("etc/passwd"), before, "{name:?}");
        assert!(!instance.path("run/visa").exists() && !instance.owner_is_announced());
    }
}

#[test]
fn accounts_of_the_system_own_nothing() {
    for name in ["root", "xrdp", "nobody"] {
        let instance = Instance::with_meta(&json!({ "owner": name, "id": "1" }));
        assert_eq!(instance.boot(), format!("<3>the owner {name} is an account of the system: refused\n"));
        assert!(!instance.path("run/visa/instance.env").exists() && !instance.owner_is_announced());
    }
}

#[test]
fn a_name_that_is_a_group_already_gets_no_account() {
    let instance = Instance::with_meta(&json!({ "owner": "audio", "id": "1" }));
    // Somebody makes it later all the same, with a group of its own.
    let log = instance.boot_with("echo audio:x:1001:1001::/:/bin/sh >>\"$VISA_ROOT/etc/passwd\"");
    assert_eq!(log, "<3>the owner audio gets no account: a group of that name exists\n");
    assert!(instance.owner_is_announced());
}

#[test]
fn an_account_that_exists_is_left_alone() {
    let instance = Instance::with_meta(&json!({ "owner": "alice", "id": "1" }));
    let before = instance.read("etc/passwd");
    assert_eq!(instance.boot(), "");
    assert_eq!(instance.read("etc/passwd"), before);
    assert!(instance.owner_is_announced());
}

#[test]
fn a_directory_is_waited_for() {
    let appears = "echo joebloggs:x:5000:5000::/nfs/j:/bin/sh >>\"$VISA_ROOT/etc/passwd\"";
    for nsswitch in ["passwd: files systemd sss\n", "passwd: files [NOTFOUND=continue] ldap\n"] {
        let instance = Instance::with_meta(&json!({ "owner": "joebloggs", "id": "1" }));
        instance.write("etc/nsswitch.conf", nsswitch);
        assert_eq!(instance.boot_with(appears), "<6>waiting for joebloggs to appear in the directory\n");
        assert_eq!(instance.account("joebloggs").unwrap(), "joebloggs:x:5000:5000::/nfs/j:/bin/sh");
        assert_eq!(instance.read("sleep.log").unwrap(), "1\n2\n3\n");
        assert!(instance.owner_is_announced());
    }
    let instance = Instance::with_meta(&json!({ "owner": "joebloggs", "id": "1" }));
    instance.write("etc/nsswitch.conf", "passwd: files sss\n");
    instance.write("etc/visa/owner.conf", "VISA_CREATE_OWNER=always\n");
    instance.boot();
    assert!(instance.account("joebloggs").unwrap().contains(":/home/joebloggs:"));
}

#[test]
fn an_account_of_the_system_that_comes_late_is_refused_too() {
    let instance = Instance::with_meta(&json!({ "owner": "munge", "id": "1" }));
    instance.write("etc/visa/owner.conf", "VISA_CREATE_OWNER=never\n");
    let log = instance.boot_with("echo munge:x:120:120::/:/bin/sh >>\"$VISA_ROOT/etc/passwd\"");
    assert!(log.ends_with("<3>the owner munge is an account of the system: refused\n"), "{log}");
    assert!(!instance.path("run/visa/instance.env").exists() && !instance.owner_is_announced());
}

#[test]
fn a_boot_command_has_the_first_word() {
    let instance = Instance::with_meta(&json!({ "owner": "joebloggs", "id": "1" }));
    instance.write("var/lib/cloud/instance/user-data.txt", "#!/bin/bash\n");
    instance.boot_with("echo joebloggs:x:4711:4711::/srv/j:/bin/sh >>\"$VISA_ROOT/etc/passwd\"");
    assert_eq!(instance.account("joebloggs").unwrap(), "joebloggs:x:4711:4711::/srv/j:/bin/sh");

    // One that makes no account: ours comes when cloud-init's final stage is over.
    let instance = Instance::with_meta(&json!({ "owner": "joebloggs", "id": "1" }));
    instance.write("var/lib/cloud/instance/user-data.txt", "#!/bin/bash\n");
    instance.boot_with("touch \"$VISA_ROOT/run/cloud-init/result.json\"");
    assert!(instance.account("joebloggs").unwrap().contains(":/home/joebloggs:"));
}

#[test]
fn a_useradd_that_fails_fails_the_unit() {
    let instance = Instance::with_meta(&json!({ "owner": "joebloggs", "id": "1" }));
    instance.program("useradd", "echo 'no space left' >&2; exit 10");
    let output = instance.script("setup-owner", "exit 1");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "no space left\n<3>useradd could not make the owner joebloggs\n"
    );
    assert!(!instance.owner_is_announced());
}

#[test]
fn a_useradd_that_somebody_else_overtook_is_no_fault() {
    let instance = Instance::with_meta(&json!({ "owner": "joebloggs", "id": "1" }));
    instance.program("useradd", "echo joebloggs:x:1001:1001::/home/j:/bin/sh >>\"$VISA_ROOT/etc/passwd\"; exit 9");
    assert_eq!(instance.boot(), "");
    assert!(instance.owner_is_announced());
}

#[test]
fn an_instance_id_is_a_number() {
    for id in ["12; reboot", "../1", "", "uuid-1"] {
        let instance = Instance::with_meta(&json!({ "owner": "alice", "id": id }));
        instance.boot();
        assert_eq!(instance.read("run/visa/instance.env").unwrap(), "OWNER=alice\nINSTANCE_ID=\n", "{id}");
    }
}

#[test]
fn keys_are_accepted_in_their_usual_forms() {
    let private = private_key();
    let spki = openssl(&["pkey", "-pubout"], &private);
    let pkcs1 = openssl(&["rsa", "-RSAPublicKey_out"], &private);
    for form in [spki.clone(), pkcs1, spki.replace('\n', "\r\n"), spki.trim_end().to_owned(), format!("VISA\n{spki}")] {
        let instance = Instance::with_meta(&json!({ "pamPublicKey": form }));
        instance.write("etc/visa/public.pem", "the key of the image\n");
        instance.boot();
        assert_eq!(instance.read("etc/visa/public.pem").unwrap(), spki, "{form}");
    }
}

#[test]
fn an_invalid_key_changes_nothing_and_says_why() {
    let private = private_key();
    let spki = openssl(&["pkey", "-pubout"], &private);
    let curve = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
    let pss = openssl(&["genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:768"], "");
    let cases = [
        (spki.replace('\n', " "), "has lost its newlines"),
        (spki.replace('\n', "\\n"), "the two characters \\n"),
        (private.clone(), "contains a private key"),
        (format!("{spki}{private}"), "contains a private key"),
        (openssl(&["pkey", "-pubout"], &curve), "is not an RSA public key"),
        (openssl(&["pkey", "-pubout"], &pss), "is not an RSA public key"),
        (spki.replace("MH", "AA"), "is not an RSA public key"),
        (spki.lines().take(2).collect::<Vec<_>>().join("\n"), "is not an RSA public key"),
        ("ssh-rsa AAAAB3NzaC1yc2E joe@site".to_owned(), "is not a PEM public key"),
        ("$(reboot)".to_owned(), "is not a PEM public key"),
    ];
    for (key, reason) in cases {
        let instance = Instance::with_meta(&json!({ "owner": "alice", "id": "1", "pamPublicKey": key }));
        instance.write("etc/visa/public.pem", "the key of the image\n");
        let log = instance.boot();
        assert!(log.starts_with("<3>pamPublicKey ") && log.contains(reason), "{key}: {log}");
        assert_eq!(log.lines().count(), 1, "the key itself is not logged: {log}");
        assert_eq!(instance.read("etc/visa/public.pem").unwrap(), "the key of the image\n");
        assert!(instance.owner_is_announced(), "the owner does not depend on the key");
    }
}

/// What wait-for-owner prints, once there is an owner, of an instance that the cloud describes so.
fn what_services_get(meta_data: &Value) -> String {
    let instance = Instance::new(meta_data);
    let output = instance.script(
        "wait-for-owner",
        "mkdir -p \"$VISA_ROOT/run/visa\"; printf 'OWNER=alice\\nINSTANCE_ID=7\\n' >\"$VISA_ROOT/run/visa/instance.env\"",
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().replace("''", "")
}

#[test]
fn waiting_for_the_owner_ends_with_what_a_service_needs() {
    let expected = "OWNER=alice\nOWNER_UID=1500\nOWNER_GID=1500\nOWNER_HOME=/nfs/alice\nINSTANCE_ID=7\nSERVER_UUID=\n";
    assert_eq!(what_services_get(&json!({})), expected);
}

#[test]
fn the_servers_uuid_is_the_clouds_and_nothing_else() {
    let uuid = "0b6fa1c2-7d3e-4f58-9a10-2c4d6e8f0a1b";
    let cases = [
        (json!({ "instance-id": uuid, "uuid": "another", "meta": { "instance-id": "the users own" } }), uuid),
        (json!({ "uuid": uuid }), uuid),
        (json!({ "instance-id": "iid-local01" }), "iid-local01"),
        (json!({ "meta": { "uuid": uuid } }), ""),
        (json!({ "instance-id": "a; reboot" }), ""),
        (json!({ "instance-id": "a\r\nx-other: 1" }), ""),
        (json!({ "instance-id": null }), ""),
        (json!([1]), ""),
    ];
    for (meta_data, expected) in cases {
        let told = what_services_get(&meta_data);
        assert!(told.ends_with(&format!("\nSERVER_UUID={expected}\n")), "{meta_data}: {told}");
    }
}
