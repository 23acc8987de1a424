//! Broken projects: what exactly is said about each, where, and what to do about it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;
use visabuild::error::{Error, Kind, Problem};
use visabuild::template::{Inputs, Value, load, resolve};

const CONFIG: &str = "config.yml";
const BASE: &str = "templates/base/manifest.yml";
const BASE_ENVIRONMENT: &str = "templates/base/environment.yml";
const APPS: &str = "templates/apps/manifest.yml";

/// A sound project of two templates; each test breaks some of its files.
const SOUND: [(&str, &str); 4] = [
    (CONFIG, "templates:\n  base:\n  apps:\n    extends: base\n"),
    (BASE, "packer:\n  builders:\n    - {type: bootstrap, suite: trixie}\n"),
    (BASE_ENVIRONMENT, "environment:\n  locale: en_GB\n"),
    (APPS, "packer:\n  provisioners: []\n"),
];

struct Broken {
    folder: TempDir,
    names: Vec<String>,
    inputs: Inputs,
}

impl Broken {
    /// The sound project with these files written over it.
    fn project(files: &[(&str, &str)]) -> Self {
        let broken = Self { folder: tempfile::tempdir().unwrap(), names: Vec::new(), inputs: Inputs::default() };
        for (file, text) in SOUND.iter().chain(files) {
            broken.write(file, text.as_bytes());
        }
        broken
    }

    fn write(&self, file: &str, bytes: &[u8]) {
        let path = self.folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn without(self, file: &str) -> Self {
        std::fs::remove_file(self.folder.path().join(file)).unwrap();
        self
    }

    fn select(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    fn value(mut self, name: &str, value: Value) -> Self {
        self.inputs.values.insert(name.to_owned(), value);
        self
    }

    fn error(&self) -> Error {
        load(self.folder.path()).and_then(|project| resolve(&project, &self.names, &self.inputs)).unwrap_err()
    }

    /// Compares all problems, each as `place: message (hint)`.
    #[track_caller]
    fn says(self, expected: &[&str]) {
        let error = self.error();
        assert_eq!(error.kind(), Kind::Usage);
        let said: Vec<String> = error.problem_list().iter().map(show).collect();
        let folder = self.folder.path().display().to_string();
        let said: Vec<String> = said.iter().map(|line| line.replace(&folder, "PROJECT")).collect();
        assert_eq!(said.join("\n"), expected.join("\n"));
    }
}

fn show(problem: &Problem) -> String {
    problem.hint.as_ref().map_or_else(|| problem.to_string(), |hint| format!("{problem} ({hint})"))
}

#[test]
fn the_sound_project_is_sound() {
    let sound = Broken::project(&[]);
    let project = load(sound.folder.path()).unwrap();
    assert_eq!(resolve(&project, &[], &Inputs::default()).unwrap().templates.len(), 2);
}

// config.yml

#[test]
fn no_config() {
    Broken::project(&[]).without(CONFIG).says(&["there is no config.yml in PROJECT \
         (run visabuild in a project's folder, which has config.yml and templates/)"]);
}

#[test]
fn empty_config() {
    Broken::project(&[(CONFIG, "# nothing yet\n")])
        .says(&["config.yml:1:1: no template is declared (declare them below `templates:`)"]);
    Broken::project(&[(CONFIG, "templates: {}\n")]).says(&["config.yml:1:12: no template is declared"]);
}

#[test]
fn config_of_wrong_types() {
    Broken::project(&[(CONFIG, "- base\n")]).says(&["config.yml:1:1: expected a mapping, found a list"]);
    Broken::project(&[(CONFIG, "templates: [base]\n")]).says(&["config.yml:1:12: expected a mapping, found a list"]);
    Broken::project(&[(CONFIG, "templates:\n  base:\n  apps: base\n  more: {extends: [base]}\n")]).says(&[
        "config.yml:3:9: expected a mapping, found a string",
        "config.yml:4:19: expected a string, found a list",
    ]);
}

#[test]
fn an_unknown_engine_in_config() {
    let with = |engine: &str| format!("engine: {engine}\ntemplates:\n  base:\n");
    Broken::project(&[(CONFIG, &with("docker"))]).says(&["config.yml:1:9: `docker` is not an engine (qemu, nspawn)"]);
    Broken::project(&[(CONFIG, &with("[qemu]"))]).says(&["config.yml:1:9: expected a string, found a list"]);
}

#[test]
fn unknown_keys_in_config() {
    Broken::project(&[(CONFIG, "template:\n  base:\ntemplates:\n  base:\n    extend: x\n    colour: red\n")]).says(&[
        "config.yml:1:1: unknown key `template` (did you mean `templates`?)",
        "config.yml:5:5: unknown key `extend` (did you mean `extends`?)",
        "config.yml:6:5: unknown key `colour` (known here: `extends`, `packages`)",
    ]);
}

#[test]
fn unknown_parent() {
    Broken::project(&[(CONFIG, "templates:\n  base:\n  apps:\n    extends: bse\n")])
        .says(&["config.yml:4:14: `apps` extends `bse`, which is not declared (did you mean `base`?)"]);
}

#[test]
fn cycles() {
    let config = "templates:\n  base:\n  a: {extends: b}\n  b: {extends: c}\n  c: {extends: a}\n  d: {extends: d}\n  e: {extends: a}\n";
    let empty = "packer: {}\n";
    let files = ["a", "b", "c", "d", "e"].map(|name| format!("templates/{name}/manifest.yml"));
    let mut all: Vec<(&str, &str)> = files.iter().map(|file| (file.as_str(), empty)).collect();
    all.push((CONFIG, config));
    Broken::project(&all).says(&[
        "config.yml:3:16: `a` extends `b` extends `c` extends `a` (remove one `extends:` of the circle)",
        "config.yml:6:16: `d` extends itself (remove one `extends:` of the circle)",
    ]);
}

#[test]
fn names_that_are_no_names() {
    Broken::project(&[(CONFIG, "templates:\n  base:\n  ../x:\n  -rf:\n")]).says(&[
        "config.yml:3:3: `../x` cannot be the name of a template \
         (use letters, digits, `.`, `_` and `-`, beginning with a letter or digit)",
        "config.yml:4:3: `-rf` cannot be the name of a template \
         (use letters, digits, `.`, `_` and `-`, beginning with a letter or digit)",
    ]);
}

#[test]
fn unknown_packages() {
    let config = "templates:\n  base: {packages: [sssd, sss, nfs]}\n";
    Broken::project(&[(CONFIG, config), ("packages/sssd/manifest.yml", "provisioner: []\n"), ("packages/nfs/x", "")])
        .says(&[
            "config.yml:2:27: unknown package `sss` (did you mean `sssd`?)",
            "config.yml:2:32: `packages/nfs/manifest.yml` does not exist",
            "packages/sssd/manifest.yml:1:1: unknown key `provisioner` (did you mean `provisioners`?)",
        ]);
}

#[test]
fn unknown_templates_on_the_command_line() {
    Broken::project(&[]).select("bsae").select("visa-apps").says(&[
        "unknown template `bsae` (did you mean `base`?)",
        "unknown template `visa-apps` (known here: `base`, `apps`)",
    ]);
}

// Files

#[test]
fn missing_manifest() {
    Broken::project(&[("templates/apps/manifest.yaml", "")]).without(APPS).without(BASE).says(&[
        "config.yml:2:3: `templates/base/manifest.yml` does not exist",
        "config.yml:3:3: `templates/apps/manifest.yml` does not exist \
         (the file `manifest.yaml` there would have to be called `manifest.yml`)",
    ]);
}

#[test]
fn yaml_faults_of_all_files_at_once() {
    let broken = Broken::project(&[
        (CONFIG, "templates:\n  base:\n  base:\n"),
        (BASE, "packer: [\n"),
        (BASE_ENVIRONMENT, "environment:\n\tlocale: x\n"),
        (APPS, "packer: {}\n---\npacker: {}\n"),
    ]);
    broken.write("templates/apps/environment.yml", b"environment:\n  caf\xe9: x\n");
    broken.says(&[
        "config.yml:3:3: duplicate key `base`; it is already at 2:3",
        "templates/apps/environment.yml:2:6: not UTF-8 text (save the file as UTF-8)",
        "templates/apps/manifest.yml:2:1: a second YAML document begins here \
         (keep one document in the file: remove `---` and what follows)",
        "templates/base/environment.yml:2:2: not valid YAML: tabs disallowed within this context (block indentation) \
         (indent with spaces; YAML does not take tabs)",
        "templates/base/manifest.yml:2:1: not valid YAML: while parsing a node, did not find expected node content",
    ]);
}

#[test]
fn braces_without_quotes() {
    let manifest = "packer:\n  description: {{ locale }}\n  builders:\n    - {type: bootstrap, suite: trixie}\n";
    Broken::project(&[(BASE, manifest)]).says(&[
        "templates/base/manifest.yml:2:16: `{{ locale }}` has no quotes, so YAML takes its braces for a mapping \
         (write \"{{ locale }}\")",
    ]);
}

#[test]
fn environment_of_wrong_types() {
    Broken::project(&[(BASE_ENVIRONMENT, "environment:\n  a: [1]\n  my-var: x\n  b: {c: d}\nenviroment: {}\n")]).says(
        &[
            "templates/base/environment.yml:2:6: expected a string, found a list",
            "templates/base/environment.yml:3:3: `my-var` cannot be the name of a variable \
         (use letters, digits and `_`, not beginning with a digit)",
            "templates/base/environment.yml:4:6: expected a string, found a mapping",
            "templates/base/environment.yml:5:1: unknown key `enviroment` (did you mean `environment`?)",
        ],
    );
}

#[test]
fn an_unreadable_environment_makes_no_undefined_variables() {
    let manifest = "packer:\n  description: \"{{ colour }}\"\n";
    Broken::project(&[(BASE_ENVIRONMENT, "environment: [\n"), (APPS, manifest)]).says(&[
        "templates/base/environment.yml:2:1: not valid YAML: while parsing a node, did not find expected node content",
    ]);
}

// Builders

#[test]
fn no_builder_and_no_parent() {
    Broken::project(&[(BASE, "packer:\n  description: x\n")])
        .says(&["config.yml:2:3: template `base` has neither a parent nor a builder \
         (add `extends:` in config.yml, or a builder of type `bootstrap` or `installer`)"]);
}

#[test]
fn builders_in_the_wrong_place() {
    Broken::project(&[
        (BASE, "packer:\n  builders:\n    - type: qemu\n"),
        (APPS, "packer:\n  builders:\n    - type: bootstrap\n      suite: trixie\n"),
    ])
    .says(&[
        "templates/apps/manifest.yml:3:13: a builder of type `bootstrap` makes a first disk, but this template has its parent's \
         (write `type: qemu`, or drop the builder)",
        "templates/base/manifest.yml:3:13: a `qemu` builder starts from the parent's disk or from a medium, but here is neither \
         (add `extends:` in config.yml, or `iso_url`, or write `type: bootstrap`)",
    ]);
}

#[test]
fn options_of_packer_that_are_not_supported() {
    let builder = "packer:\n  builders:\n    - type: qemu\n      boot_command: []\n      ssh_certificate_fil: x\n      memry: 4\n      ssh_proxy_host: x\n";
    Broken::project(&[(APPS, builder)]).says(&[
        "templates/apps/manifest.yml:4:7: `boot_command` is for a builder that installs a system: this disk is the parent's",
        "templates/apps/manifest.yml:5:7: unknown key `ssh_certificate_fil` \
         (`ssh_certificate_file` is an option of Packer's SSH communicator that visabuild does not have)",
        "templates/apps/manifest.yml:6:7: unknown key `memry` (did you mean `memory`?)",
        "templates/apps/manifest.yml:7:7: `ssh_proxy_host` is an option of Packer's SSH communicator that visabuild does not have: \
         the guest runs on this host, which reaches it through QEMU's own network \
         (drop it; the guest's own way out is `--http-proxy`)",
    ]);
}

#[test]
fn scalars_of_wrong_form() {
    let builder = "packer:\n  builders:\n    - type: qemu\n      memory: 4G\n      cpus: two\n      disk_size: 10GB\n      ssh_timeout: 30\n      headless: maybe\n      format: raw\n      disk_image: no\n";
    Broken::project(&[(APPS, builder)]).says(&[
        "templates/apps/manifest.yml:4:15: expected a whole number from 1, found `4G` (write it without a unit, like `4096`)",
        "templates/apps/manifest.yml:5:13: expected a whole number from 1, found `two` (write it without a unit, like `4096`)",
        "templates/apps/manifest.yml:6:18: expected a size, found `10GB` (write it like `10G`, `40960M` or `40960` (MiB))",
        "templates/apps/manifest.yml:7:20: expected a duration, found `30` (write it with a unit, like `30s`, `5m` or `1m30s`)",
        "templates/apps/manifest.yml:8:17: expected a boolean, found `maybe` (write `true` or `false`)",
        "templates/apps/manifest.yml:9:15: `format` can only be `qcow2` here, not `raw`: images are compressed, flat qcow2 files \
         (`visabuild upload --format raw` unpacks while it sends; `qemu-img convert` makes any other)",
        "templates/apps/manifest.yml:10:19: `disk_image` cannot be false: the disk is the parent's",
    ]);
}

#[test]
fn machines_of_wrong_form() {
    let builder = "packer:\n  builders:\n    - type: qemu\n      machine_type: microvm\n      disk_interface: sd\n      \
                   disk_additional_size: [1G, x]\n      net_device: e1001\n      net_bridge: br0\n      \
                   vnc_bind_address: 0.0.0.0\n      vnc_password: 123456789\n      qemuargs:\n      - [\"-vnc\", \":0\"]\n      - [device, x]\n      \
                   - [\"-netdev\", \"user,hostfwd=tcp::{{ .SSHHostPort }}-:22\"]\n      communicator: none\n      \
                   ssh_port: 0\n      ssh_keep_alive_interval: often\n";
    Broken::project(&[(APPS, builder)]).says(&[
        "templates/apps/manifest.yml:4:21: expected a machine of QEMU's, found `microvm` \
         (write `q35`, `pc`, or one with its version, like `pc-q35-9.2`)",
        "templates/apps/manifest.yml:5:23: expected one of `virtio`, `virtio-scsi`, `ide`, `sata`, `scsi`, found `sd`",
        "templates/apps/manifest.yml:6:34: expected a size, found `x` (write it like `10G`, `40960M` or `40960` (MiB))",
        "templates/apps/manifest.yml:7:19: unknown network device `e1001` (did you mean `e1000`?)",
        "templates/apps/manifest.yml:8:7: `net_bridge` is an option of Packer's qemu builder that visabuild does not have: \
         a guest of a build is never on a network of the site \
         (drop it: QEMU's own network takes the guest everywhere that this host gets to)",
        "templates/apps/manifest.yml:9:25: VNC cannot listen on `0.0.0.0`: whoever reaches it works at the machine's keyboard \
         (write `127.0.0.1`, and look in from elsewhere through `ssh -L`)",
        "templates/apps/manifest.yml:10:21: a password for VNC has 1 to 8 bytes",
        "templates/apps/manifest.yml:12:9: `-vnc` cannot be used \
         (visabuild asks QEMU where it listens; `vnc_port_min` and its like say where it may)",
        "templates/apps/manifest.yml:13:9: expected a switch of QEMU's, found `device` \
         (write a row as `[\"-device\", \"virtio-balloon-pci\"]`)",
        "templates/apps/manifest.yml:14:9: `qemuargs` has no variable `{{ .SSHHostPort }}` \
         (the kernel chooses this port, and it is not known before QEMU runs)",
        "templates/apps/manifest.yml:15:21: `communicator` can only be `ssh` here, not `none`: \
         visabuild itself prepares, seals and powers off guests over SSH \
         (give the guest an SSH server; what needs no guest needs no build)",
        "templates/apps/manifest.yml:16:17: expected a whole number from 1, found `0` (write it without a unit, like `4096`)",
        "templates/apps/manifest.yml:17:32: expected a duration, found `often` (write it with a unit, like `30s`, `5m` or `1m30s`)",
    ]);
    let builder = "packer:\n  builders:\n    - type: qemu\n      vnc_port_min: 6000\n      vnc_port_max: 5901\n";
    Broken::project(&[(APPS, builder)])
        .says(&["templates/apps/manifest.yml:5:21: `vnc_port_max` (5901) is below `vnc_port_min` (6000)"]);
    let arguments =
        "qemuargs:\n      - [\"-smbios\", \"type=1,serial=ds=nocloud;s=http://{{.HTTPIP}}:{{.HTTPPort}}/\"]\n";
    let builder = format!("packer:\n  builders:\n    - type: qemu\n      {arguments}");
    Broken::project(&[(APPS, &builder)]).says(&[
        "templates/apps/manifest.yml:5:9: `{{ .HTTPPort }}` is of a builder that installs a system: this disk is the parent's",
    ]);
    let image = "type: qemu\n      iso_url: /x.qcow2\n      iso_checksum: none\n      disk_image: true";
    let builder = format!("packer:\n  builders:\n    - {image}\n      {arguments}");
    Broken::project(&[(BASE, &builder)]).says(&[
        "templates/base/manifest.yml:8:9: `{{ .HTTPPort }}` is of a builder that installs a system: nothing is installed here",
    ]);
}

#[test]
fn bootstrap_of_wrong_form() {
    let builder = "packer:\n  builders:\n    - type: bootstrap\n      components: main contrib\n      variant: minbas\n      packages: [\"-o\"]\n";
    Broken::project(&[(BASE, builder)]).says(&[
        "templates/base/manifest.yml:3:7: `suite` is missing",
        "templates/base/manifest.yml:4:19: expected a list, found a string",
        "templates/base/manifest.yml:5:16: unknown mmdebstrap variant `minbas` (did you mean `minbase`?)",
        "templates/base/manifest.yml:6:18: expected one word, found `-o` \
         (write a name without spaces or commas, not beginning with `-`)",
    ]);
}

#[test]
fn builders_that_are_too_many_or_unknown() {
    let two = "packer:\n  builders:\n    - {type: qemu}\n    - {type: qemu}\n";
    Broken::project(&[(APPS, two)])
        .says(&["templates/apps/manifest.yml:4:7: a template has one builder; this is the second"]);
    let unknown = "packer:\n  builders:\n    - {type: virtualbox-iso}\n";
    Broken::project(&[(APPS, unknown)]).says(&[
        "templates/apps/manifest.yml:3:14: unknown builder type `virtualbox-iso` (known here: `bootstrap`, `installer`, `qemu`)",
    ]);
}

// Provisioners

#[test]
fn keys_of_manifests() {
    let manifest = "packer:\n  provisoners: []\n  variables: [a]\n  description: {a: b}\nseals: {}\n";
    Broken::project(&[(APPS, manifest)]).says(&[
        "templates/apps/manifest.yml:2:3: unknown key `provisoners` (did you mean `provisioners`?)",
        "templates/apps/manifest.yml:3:14: expected a mapping, found a list",
        "templates/apps/manifest.yml:4:16: expected a string, found a mapping",
        "templates/apps/manifest.yml:5:1: unknown key `seals` (did you mean `seal`?)",
    ]);
}

#[test]
fn provisioners_of_wrong_form() {
    let manifest = r#"packer:
  provisioners:
    - shell
    - inline: [a]
    - type: shel
    - type: ansible
    - type: shell
    - type: shell
      inline: [a]
      script: b
    - type: shell
      inline: echo
      max_retries: some
      valid_exit_code: [1]
    - type: shell
      inline: []
      environment_vars: [A, "1B=c"]
      valid_exit_codes: [300]
      execute_command: "sh {{ .Vars }}"
    - type: shell
      inline: [a]
      execute_command: "{{ .EnvVarFile }} {{ .Path }}"
    - type: shell-local
      command: a
      execute_command: [sh, "{{ .Path }}"]
    - type: shell-local
      command: a
      execute_command: sh -c a
      tempfile_extension: a/b
    - type: powershell
    - type: breakpoint
      disabled: true
    - type: ansible
      playbook_file: nowhere.yml
      extra_arguments: ["-e", "pw={{ root_password }}"]
      inventory_file_template: "{{ .Name }}"
  error-cleanup-provisioner:
    type: breakpoint
"#;
    Broken::project(&[(APPS, manifest)]).says(&[
        "templates/apps/manifest.yml:3:7: expected a mapping, found a string",
        "templates/apps/manifest.yml:4:7: `type` is missing",
        "templates/apps/manifest.yml:5:13: unknown provisioner `shel` (did you mean `shell`?)",
        "templates/apps/manifest.yml:6:7: one of `playbook_file`, `playbook_files` is needed",
        "templates/apps/manifest.yml:7:7: one of `inline`, `script`, `scripts` is needed",
        "templates/apps/manifest.yml:10:7: `script` cannot stand beside `inline`",
        "templates/apps/manifest.yml:12:15: expected a list, found a string",
        "templates/apps/manifest.yml:13:20: expected a whole number, found `some` (write how many further attempts, like `3`)",
        "templates/apps/manifest.yml:14:7: unknown key `valid_exit_code` (did you mean `valid_exit_codes`?)",
        "templates/apps/manifest.yml:16:15: the list is empty",
        "templates/apps/manifest.yml:17:26: expected `KEY=VALUE`, found `A`",
        "templates/apps/manifest.yml:17:29: `1B` cannot be the name of an environment variable",
        "templates/apps/manifest.yml:18:26: expected an exit code, found `300` (write a number from 0 to 255)",
        "templates/apps/manifest.yml:19:24: `execute_command` does not run the script (the script's path is `{{ .Path }}`)",
        "templates/apps/manifest.yml:22:24: `execute_command` has no variable `{{ .EnvVarFile }}` (it needs `use_env_var_file: true`)",
        "templates/apps/manifest.yml:25:29: `execute_command` has no variable `{{ .Path }}` (known here: `Vars`, `Script`, `Command`)",
        "templates/apps/manifest.yml:28:24: `execute_command` does not run the script (the script's path is `{{ .Script }}`)",
        "templates/apps/manifest.yml:29:27: an ending of a file's name has no slash",
        "templates/apps/manifest.yml:30:13: visabuild does not have the provisioner `powershell`: visabuild builds no Windows guests (use `shell`)",
        "templates/apps/manifest.yml:32:7: unknown key `disabled` (did you mean `disable`?)",
        "templates/apps/manifest.yml:34:22: `nowhere.yml` does not exist (looked for `templates/apps/nowhere.yml`, `nowhere.yml`)",
        "templates/apps/manifest.yml:35:38: undefined variable `root_password` (set it in templates/apps/environment.yml)",
        "templates/apps/manifest.yml:36:32: `inventory_file_template` has no variable `{{ .Name }}` (known here: `HostAlias`, `Host`, `Port`, `User`)",
        "templates/apps/manifest.yml:38:5: `error-cleanup-provisioner` cannot be a `breakpoint` (`--on-error ask` stops at a failure)",
    ]);
}

#[test]
fn options_of_provisioners_that_visabuild_does_not_have() {
    let manifest = "packer:\n  provisioners:\n    - type: shell\n      inline: [a]\n      only: [qemu]\n      \
                    override: {qemu: {}}\n      env_var_format: \"%s\"\n      continue_on_error: yes\n";
    Broken::project(&[(APPS, manifest)]).says(&[
        "templates/apps/manifest.yml:5:7: `only` is an option of Packer's provisioners that visabuild does not have: \
         a template has one build, and all its builders make the same disk \
         (put the step into a template of its own that extends this one)",
        "templates/apps/manifest.yml:6:7: `override` is an option of Packer's provisioners that visabuild does not have: \
         a template has one build, and all its builders make the same disk \
         (write the values into the provisioner itself)",
        "templates/apps/manifest.yml:7:7: `env_var_format` is an option of Packer's shell provisioner that visabuild does \
         not have: values are quoted so that each comes through the guest's shell as it is \
         (write what has to stand before them into `execute_command`: `sudo env {{ .Vars }} {{ .Path }}`)",
        "templates/apps/manifest.yml:8:26: `continue_on_error` can only be `false` here, not `yes`: \
         what failed would be in the image and in the cache as if it had not \
         (write `|| true` behind the command that may fail, or name its exit code in `valid_exit_codes`)",
    ]);
}

#[test]
fn keys_that_belong_to_something_else() {
    let builder = "packer:\n  builders:\n    - {type: qemu, iso_url: /x, iso_checksum: none, initrd_urls: [/y]}\n";
    Broken::project(&[(BASE, builder)])
        .says(&["templates/base/manifest.yml:3:53: `initrd_urls` belongs to something that is missing here"]);
    let builder = "packer:\n  builders:\n    - {type: bootstrap, suite: trixie, iso_url: /x}\n";
    Broken::project(&[(BASE, builder)]).says(&[
        "templates/base/manifest.yml:3:40: `iso_url` is for a builder that installs a system: mmdebstrap makes this disk",
    ]);
    let twice = "packer:\n  builders:\n    - {type: qemu, ssh_timeout: 1m, ssh_wait_timeout: 2m}\n";
    Broken::project(&[(APPS, twice)])
        .says(&["templates/apps/manifest.yml:3:37: `ssh_wait_timeout` is the old name of \
                                              `ssh_timeout`, and cannot stand beside it"]);
    let medium = "type: qemu, iso_url: /x, iso_checksum: none, boot_wait: 2h";
    let builder = format!("packer:\n  builders:\n    - {{{medium}, boot_command: [a], boot_steps: [[b, c]]}}\n");
    Broken::project(&[(BASE, &builder)]).says(&[
        "templates/base/manifest.yml:3:64: `boot_wait` is at most an hour",
        "templates/base/manifest.yml:3:87: `boot_steps` cannot stand beside `boot_command`",
    ]);
    let builder = "packer:\n  builders:\n    - type: qemu\n      iso_url: /x\n      iso_checksum: none\n      \
                   boot_steps:\n      - [a, begin]\n      - [\"<enterr>\"]\n";
    let error = Broken::project(&[(BASE, builder)]).error();
    let problem = &error.problem_list()[0];
    assert!(problem.to_string().starts_with("templates/base/manifest.yml:8:9: "), "{problem}");
}

#[test]
fn files_that_are_not_there() {
    let manifest = r#"packer:
  provisioners:
    - {type: shell, script: scripts/setup.sh}
    - {type: shell, scripts: [/nowhere/x.sh, files]}
    - {type: file, source: files/note/, destination: /etc}
    - {type: file, source: ../base/manifest.yml, destination: ""}
    - {type: file, source: "{{ pam_public_key }}", destination: /etc}
"#;
    Broken::project(&[(APPS, manifest), ("files/note", "")])
        .value("pam_public_key", Value::Secret("/nowhere/key.pem".to_owned().into()))
        .says(&[
            "templates/apps/manifest.yml:3:29: `scripts/setup.sh` does not exist \
             (looked for `templates/apps/scripts/setup.sh`, `scripts/setup.sh`)",
            "templates/apps/manifest.yml:4:31: `/nowhere/x.sh` does not exist",
            "templates/apps/manifest.yml:4:46: `files` is a folder, not a file",
            "templates/apps/manifest.yml:5:28: `files/note` ends in a slash but is not a folder",
            "templates/apps/manifest.yml:6:63: the path is empty",
            "templates/apps/manifest.yml:7:28: `‹secret:pam_public_key›` does not exist",
        ]);
}

#[test]
fn a_script_of_the_host_that_its_shell_cannot_run() {
    let manifest = "packer:\n  provisioners:\n    - {type: shell-local, script: s.sh}\n    \
                    - {type: shell-local, script: s.sh, execute_command: [bash, '{{ .Script }}']}\n";
    Broken::project(&[(APPS, manifest), ("templates/apps/s.sh", "true\n")]).says(&[
        "templates/apps/manifest.yml:3:35: `templates/apps/s.sh` is not executable (`chmod +x` it, or name its \
         interpreter in `execute_command`)",
    ]);
}

#[test]
fn a_power_off_that_stops_no_services() {
    let manifest =
        "packer:\n  builders:\n    - {name: qemu, type: qemu, disk_image: true, shutdown_command: poweroff -f}\n";
    Broken::project(&[(APPS, manifest)]).says(&[
        "templates/apps/manifest.yml:3:68: `shutdown_command` has `-f`, which stops no services (leave it out: what they \
         write at their end would be lost, and the build's own access would stay)",
    ]);
}

#[test]
fn files_of_packages_are_looked_for_where_packme_does() {
    let config = "templates:\n  base: {packages: [sssd]}\n";
    let package = "provisioners:\n  - {type: file, source: sssd.conf, destination: /etc/sssd}\n";
    Broken::project(&[(CONFIG, config), ("packages/sssd/manifest.yml", package)])
        .says(&["packages/sssd/manifest.yml:2:26: `sssd.conf` does not exist \
         (looked for `packages/sssd/base/sssd.conf`, `packages/sssd/sssd.conf`, `sssd.conf`)"]);
}

#[test]
fn file_provisioners_of_wrong_form() {
    let manifest = r#"packer:
  provisioners:
    - {type: file, content: a}
    - {type: file, content: a, source: b, destination: /c}
    - {type: file, content: a, destination: /c, mode: u+x, direction: download}
    - {type: file, content: a, destination: /c, direction: up, owner: root}
"#;
    let cached = "a step whose result is in the cache is not done again, so nothing would come \
                  (take it out of the finished image (`virt-copy-out -a IMAGE PATH .`), or send it from a `shell` step)";
    Broken::project(&[(APPS, manifest)]).says(&[
        "templates/apps/manifest.yml:3:7: `destination` is missing",
        "templates/apps/manifest.yml:4:32: `source` cannot stand beside `content`",
        "templates/apps/manifest.yml:5:55: expected a file mode, found `u+x` (write it in octal, like `\"0644\"`)",
        &format!("templates/apps/manifest.yml:5:71: `direction` can only be `upload` here, not `download`: {cached}"),
        &format!("templates/apps/manifest.yml:6:60: `direction` can only be `upload` here, not `up`: {cached}"),
        "templates/apps/manifest.yml:6:64: unknown key `owner` (known here: `type`, `name`, `pause_before`, `timeout`, \
         `max_retries`, `cache`, `continue_on_error`, `source`, `sources`, `content`, `destination`, `direction`, \
         `generated`, `mode`)",
    ]);
}

#[test]
fn post_processors() {
    let manifest = "packer:\n  post-processors:\n    - type: compres\n    - docker-tag\n    - - {type: manifest}\n      - {}\n  postprocessors: x\n";
    Broken::project(&[(APPS, manifest)]).says(&[
        "templates/apps/manifest.yml:3:13: unknown post-processor `compres` (did you mean `compress`?)",
        "templates/apps/manifest.yml:4:7: visabuild has no post-processor `docker-tag` (`docker tag` after `visabuild build`)",
        "templates/apps/manifest.yml:6:9: `type` is missing",
        "templates/apps/manifest.yml:7:19: expected a list, found a string",
    ]);
}

// Variables, sealing, alternatives

#[test]
fn undefined_variables() {
    let manifest = "packer:\n  description: \"é {{ local }}\"\n  provisioners:\n    - type: shell\n      inline:\n        - |\n          one\n          two {{ locale }} {{ colour }}\n";
    Broken::project(&[(APPS, manifest)]).says(&[
        "templates/apps/manifest.yml:2:22: undefined variable `local` (did you mean `locale`?)",
        "templates/apps/manifest.yml:8:31: undefined variable `colour` (set it in templates/apps/environment.yml)",
    ]);
}

#[test]
fn templates_written_for_jinja() {
    let manifest = "packer:\n  description: \"{{ locale | default('x') }}\"\n  variables:\n    a: \"{{ locale.upper() }}\"\n    b: \"{% if locale %}\"\n";
    Broken::project(&[(APPS, manifest)]).says(&[
        "templates/apps/manifest.yml:2:37: template: found string but expected identifier \
         (tera names arguments: `default(value='x')`)",
        "templates/apps/manifest.yml:4:19: template: function calls are only allowed at the first element of a chain \
         (tera has no methods: write `| upper`)",
        "templates/apps/manifest.yml:5:22: template: unexpected end of input",
    ]);
}

#[test]
fn values_not_given_count_for_the_selected_chain_only() {
    let seal = "packer:\n  builders:\n    - {type: bootstrap, suite: trixie}\nseal:\n  root_password: \"{{ root_password }}\"\n";
    let apps = "packer:\n  provisioners:\n    - {type: file, source: \"{{ pam_public_key }}\", destination: /etc}\n";
    let broken = |name: &str| {
        let missing =
            |option: &str, variable: &str| Value::Missing { option: option.into(), variable: variable.into() };
        Broken::project(&[(BASE, seal), (APPS, apps)])
            .value("root_password", missing("-rp/--root-password PW", "VISA_ROOT_PASSWORD"))
            .value("pam_public_key", missing("-pp/--pam-public PATH", "VISA_PAM_PUBLIC_KEY"))
            .select(name)
    };
    broken("base").says(&["`root_password` is used by template base but was not given \
         (give it with -rp/--root-password PW or VISA_ROOT_PASSWORD)"]);
    broken("apps").says(&[
        "`pam_public_key` is used by template apps but was not given (give it with -pp/--pam-public PATH or VISA_PAM_PUBLIC_KEY)",
        "`root_password` is used by templates base, apps but was not given \
         (give it with -rp/--root-password PW or VISA_ROOT_PASSWORD)",
    ]);
}

#[test]
fn secrets_where_they_would_be_recorded() {
    let manifest = "packer:\n  description: \"not recorded: {{ root_password }}\"\n  provisioners:\n    - {type: shell, inline: [a], remote_folder: \"/{{ root_password }}\"}\n";
    Broken::project(&[(APPS, manifest)])
        .value("root_password", Value::Secret("hunter2".to_owned().into()))
        .says(&["templates/apps/manifest.yml:4:49: the secret `root_password` cannot be used here"]);
}

#[test]
fn seals_of_wrong_form() {
    let seal = "packer:\n  builders:\n    - {type: bootstrap, suite: trixie}\nseal:\n  root_pasword: x\n  ca_certificates: true\n  provisioners:\n    - {type: file, content: \"{{ colour }}\", destination: /x}\n";
    Broken::project(&[(BASE, seal)]).says(&[
        "templates/base/manifest.yml:5:3: unknown key `root_pasword` (did you mean `root_password`?)",
        "templates/base/manifest.yml:6:20: expected `keep` or `remove`, found `true` \
         (`keep` leaves the build host's certificate authorities in the image)",
        "templates/base/manifest.yml:8:33: undefined variable `colour` (set it in templates/base/environment.yml)",
    ]);
}

#[test]
fn alternatives_of_wrong_form() {
    let base = "packer:\n  builders:\n    - {type: bootstrap, suite: trixie}\nalternatives:\n  method:\n    source: {url: x}\n    auto: {}\n  other: {}\n  locale:\n    en_US: {urls: [\"https://example.org/{{ locale }}\"]}\n    de_DE:\n";
    let apps = "alternatives:\n  locale:\n    a:\n";
    Broken::project(&[(BASE, base), (APPS, apps)]).says(&[
        "templates/base/environment.yml:2:11: `locale` has no alternative `en_GB` (known here: `en_US`, `de_DE`, `auto`)",
        "templates/base/manifest.yml:6:14: unknown key `url` (did you mean `urls`?)",
        "templates/base/manifest.yml:7:5: an alternative cannot be called `auto`",
        "templates/base/manifest.yml:8:3: `other` has no alternatives",
    ]);
}

#[test]
fn problems_of_a_template_that_is_not_selected_do_not_hinder() {
    let broken = Broken::project(&[(APPS, "packer:\n  provisoners: []\n")]).select("base");
    let project = load(broken.folder.path()).unwrap();
    let names: Vec<String> = broken.names.clone();
    assert_eq!(resolve(&project, &names, &Inputs::default()).unwrap().templates.len(), 1);
}

#[test]
fn a_folder_that_is_not_there_is_no_project() {
    let error = load(Path::new("/nowhere")).unwrap_err();
    assert_eq!(error.problem_list()[0].to_string(), "there is no config.yml in /nowhere");
    assert_eq!(error.kind().exit_code(), 2);
}

#[test]
fn alternatives_report_everything_too() {
    let manifest = "packer:\n  description: \"{{ colour }}\"\n";
    let broken = Broken::project(&[(APPS, manifest)]);
    let inputs = Inputs { values: BTreeMap::new(), ..Inputs::default() };
    let error = load(broken.folder.path()).unwrap().alternatives(&[], &inputs).unwrap_err();
    assert_eq!(error.problem_list().len(), 1);
}
