//! Projects that a generator makes: chains of templates with every kind of scalar, builders, provisioners, packages.

use super::Files;

/// How many.
const COUNT: u64 = 60;

/// Scalars as a manifest may have them; those with braces use variables that `environment` sets.
const SCALARS: [&str; 44] = [
    "yes",
    "no",
    "On",
    "OFF",
    "true",
    "False",
    "y",
    "12",
    "0",
    "-7",
    "+3",
    "0644",
    "0o644",
    "08",
    "0x1F",
    "0b101",
    "1_000",
    "12:30",
    "3.14",
    "1.50",
    ".5",
    "2.",
    "-1.5e+3",
    "1e3",
    "1.2.3",
    "10G",
    "plain text",
    "\"yes\"",
    "'0644'",
    "\"\"",
    "\"{{ a }}\"",
    "'{{ a }}-{{ b }}'",
    "\"it's {{ a }}\"",
    "'say \"{{ b }}\"'",
    "\"x: y # z, [w]\"",
    "é漢😀",
    "'{{ a | upper }}'",
    "\"{{ a ~ b }}\"",
    "'{% if flag %}on{% else %}off{% endif %}'",
    "\"{# none #}x\"",
    "'{% raw %}{{ .HTTPIP }}{% endraw %}:{{ b }}'",
    "\"{{ 'big' if flag == 'True' else 'small' }}\"",
    "!!str 12",
    "\"{{ vm_name }}\"",
];
const KEYS: [&str; 12] = [
    "headless",
    "disk_size",
    "memory",
    "cpus",
    "boot_wait",
    "iso_url",
    "iso_checksum",
    "ssh_username",
    "guest_os_type",
    "anything",
    "http_directory",
    "vm_name",
];
const NAMES: [&str; 4] = ["qemu", "virtualbox-iso", "null", "my-{{ a }}"];
const TYPES: [&str; 5] = ["qemu", "virtualbox-iso", "amazon-ebs", "\"{{ kind }}\"", "unknown"];
const PROVISIONERS: [&str; 6] = ["shell", "file", "ansible", "shell-local", "\"{{ a }}\"", "windows-restart"];
const PATHS: [&str; 6] = ["x.sh", "files/", "/etc/passwd", "./a b", "../up", "\"{{ a }}.sh\""];

pub(super) fn all() -> Vec<Files> {
    (0..COUNT).map(|seed| Random(seed + 1).project(seed)).collect()
}

/// Numbers that look random and are the same in each run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % limit
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn project(&mut self, seed: u64) -> Files {
        let count = 1 + self.below(5);
        let mut config = "# made\ntemplates:\n".to_owned();
        let mut files = Vec::new();
        // Without it, a template that extends another is refused.
        let headless = self.chance(85);
        for at in 0..count {
            config += &format!("  t{at}:\n");
            if at > 0 && self.chance(70) {
                config += &format!("    extends: t{}\n", self.below(at));
            }
            if self.chance(40) {
                config += "    packages: [p1, p0, missing]\n";
            }
            if self.chance(20) {
                config += "    unknown: key\n";
            }
            let folder = format!("templates/t{at}");
            if at == 0 || self.chance(90) {
                files.push((format!("{folder}/manifest.yml"), self.manifest()));
            }
            files.push((format!("{folder}/environment.yml"), self.environment(headless)));
        }
        for package in ["p0", "p1"] {
            let list = self.provisioners("");
            files.push((format!("packages/{package}/manifest.yml"), format!("provisioners:\n{list}")));
        }
        files.push(("config.yml".to_owned(), config));
        let name = if self.chance(30) { "from the process" } else { "PATH" };
        let environment = [("b".to_owned(), name.to_owned()), ("HOME".to_owned(), "/root".to_owned())];
        let environment = if self.chance(50) { environment.into() } else { Default::default() };
        Files { name: format!("generated {seed}"), files, environment }
    }

    fn environment(&mut self, headless: bool) -> String {
        let flag = self.one(&["yes", "no", "\"\"", "True"]);
        let number = self.one(&["7", "1_0", "0x10", "2.5", "-3", "1.5e+3"]);
        let mut text = format!("environment:\n  a: alpha\n  b: {number}\n  kind: qemu\n  flag: {flag}\n");
        if headless {
            text += "  headless: true\n";
        }
        if self.chance(10) {
            text += "  vm_name: other\n";
        }
        text
    }

    fn manifest(&mut self) -> String {
        // With nothing in `packer`, packme ends with a traceback.
        let mut text = "---\nignored: 1\npacker:\n  anything: 1\n".to_owned();
        if self.chance(60) {
            text += &format!("  description: {}\n", self.one(&SCALARS));
        }
        if self.chance(60) {
            text += &format!("  variables: {{v: {}, w: {}}}\n", self.one(&SCALARS), self.one(&SCALARS));
        }
        if self.chance(85) {
            text += "  builders:\n";
            let first = self.below(NAMES.len());
            for at in 0..1 + self.below(3) {
                text += &format!("    - type: {}\n", self.one(&TYPES));
                text += &format!("      name: \"{}\"\n", NAMES[(first + at) % NAMES.len()]);
                let key = self.below(KEYS.len());
                for at in 0..self.below(5) {
                    text += &format!("      {}: {}\n", KEYS[(key + at) % KEYS.len()], self.one(&SCALARS));
                }
                if self.chance(40) {
                    let (one, other) = (self.one(&SCALARS), self.one(&SCALARS));
                    text += &format!("      qemuargs:\n        - [\"-m\", {one}]\n        - - {other}\n");
                }
            }
        }
        if self.chance(70) {
            text += "  provisioners:\n";
            text += &self.provisioners("  ");
        }
        if self.chance(20) {
            text += &format!("  postprocessors: [{{type: compress, level: {}}}, [shell]]\n", self.one(&SCALARS));
        }
        text
    }

    fn provisioners(&mut self, indent: &str) -> String {
        let mut text = String::new();
        for _ in 0..1 + self.below(4) {
            text += &format!("{indent}  - type: {}\n", self.one(&PROVISIONERS));
            for key in ["source", "script", "destination"] {
                if self.chance(50) {
                    text += &format!("{indent}    {key}: {}\n", self.one(&PATHS));
                }
            }
            if self.chance(60) {
                let (one, other) = (self.one(&SCALARS), self.one(&SCALARS));
                text += &format!("{indent}    inline:\n{indent}      - {one}\n{indent}      - {other}\n");
            }
            if self.chance(30) {
                text += &format!("{indent}    override: {{qemu: {{\"{{{{ a }}}}\": {}}}}}\n", self.one(&SCALARS));
            }
        }
        text
    }
}
