//! A healthy chain of three templates, checked in full.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use visabuild::template::hardware::{Hardware, Screen};
use visabuild::template::{
    Action, Builder, FileSource, Inputs, Machine, Provisioner, Resolved, Shell, ShellSource, Template, Value, load,
    resolve,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/projects/chain")
}

fn inputs() -> Inputs {
    let key = root().join("config.yml").display().to_string();
    Inputs {
        values: BTreeMap::from([
            ("root_password".to_owned(), Value::Secret("hunter2".to_owned().into())),
            ("pam_public_key".to_owned(), Value::Secret(key.into())),
            ("proxy".to_owned(), Value::Host("http://proxy:3128".to_owned())),
            ("vm_color".to_owned(), Value::Plain("blue".to_owned())),
        ]),
        environment: BTreeMap::from([
            ("EDITOR".to_owned(), "vi".to_owned()),
            ("version".to_owned(), "1.11".to_owned()),
            ("vm_name".to_owned(), "from-the-shell".to_owned()),
        ]),
        ..Inputs::default()
    }
}

/// Inputs with the first choice taken for every alternative that is not named.
fn decided(names: &[String]) -> Inputs {
    let mut inputs = inputs();
    for alternatives in load(&root()).unwrap().alternatives(names, &inputs).unwrap() {
        inputs.choices.insert(alternatives.variable.clone(), alternatives.choices[0].chosen("reachable"));
    }
    inputs
}

fn resolved() -> Resolved {
    resolve(&load(&root()).unwrap(), &[], &decided(&[])).unwrap()
}

fn shell(provisioner: &Provisioner) -> &Shell {
    match &provisioner.action {
        Action::Shell(shell) => shell,
        _ => panic!("{} is not a shell provisioner", provisioner.label),
    }
}

fn labels(provisioners: &[Provisioner]) -> Vec<&str> {
    provisioners.iter().map(|provisioner| provisioner.label.as_str()).collect()
}

/// What a file provisioner copies, as shown, its destination and mode.
fn copies(provisioner: &Provisioner) -> (Vec<&str>, &str, Option<u32>) {
    let Action::File(copy) = &provisioner.action else { panic!("{} is not a file provisioner", provisioner.label) };
    let shown = match &copy.source {
        FileSource::Paths(paths) => paths.iter().map(|path| path.shown.as_str()).collect(),
        FileSource::Content(text) => vec![text.masked()],
    };
    (shown, copy.destination.masked(), copy.mode)
}

#[test]
fn parents_come_first() {
    let resolved = resolved();
    let names: Vec<_> = resolved.templates.iter().map(|t| (t.name.as_str(), t.parent.as_deref())).collect();
    assert_eq!(names, [("system-base", None), ("visa-base", Some("system-base")), ("visa-apps", Some("visa-base"))]);
    let project = load(&root()).unwrap();
    assert_eq!(project.names(), ["visa-apps", "system-base", "visa-base"]);
    let base = resolve(&project, &["visa-base".to_owned()], &decided(&["visa-base".to_owned()])).unwrap();
    assert_eq!(base.templates.len(), 2);
}

#[test]
fn the_first_template_is_bootstrapped() {
    let resolved = resolved();
    let Template { description, variables, builder, provisioners, seal, .. } = &resolved.templates[0];
    assert_eq!(description, "Debian trixie");
    assert_eq!(variables["release"].plain(), "trixie-1.11");
    let Builder::Bootstrap(bootstrap) = builder else { panic!("not a bootstrap builder") };
    assert_eq!((bootstrap.suite.as_str(), bootstrap.variant.as_str()), ("trixie", "important"));
    assert_eq!(bootstrap.components, ["main", "contrib"]);
    assert_eq!((&bootstrap.packages[..], bootstrap.disk_size), (&["cloud-init".to_owned()][..], 8 << 30));
    let ssh_timeout = Some(Duration::from_secs(90));
    let machine =
        Machine { memory: Some(2048), cpus: Some(2), ssh_timeout, hardware: headless(), ..Machine::default() };
    assert_eq!(bootstrap.machine, machine);

    assert_eq!(labels(provisioners), ["update.sh"]);
    assert_eq!(provisioners[0].location.to_string(), "templates/system-base/manifest.yml:17:7");
    let shell = shell(&provisioners[0]);
    let ShellSource::Scripts(scripts) = &shell.source else { panic!("not a script") };
    let paths: Vec<_> = scripts.iter().map(|script| (script.path.clone(), script.shown.as_str())).collect();
    assert_eq!(paths, [(root().join("scripts/update.sh"), "scripts/update.sh")]);
    let variables: Vec<_> = shell.environment_vars.iter().map(|(k, v)| (k.as_str(), v.plain(), v.masked())).collect();
    assert_eq!(variables, [("http_proxy", "http://proxy:3128", "‹host:proxy›"), ("LANG", "C.UTF-8", "C.UTF-8")]);
    assert_eq!(shell.execute_command.plain(), "chmod +x {{ .Path }}; {{ .Vars }} {{ .Path }}");
    assert_eq!((shell.inline_shebang.as_str(), shell.remote_folder.as_str()), ("/bin/sh -e", "/tmp"));
    assert_eq!((shell.expect_disconnect, &shell.valid_exit_codes[..], shell.binary), (false, &[0][..], false));
    assert!(seal.root_password.is_none() && seal.provisioners.is_empty() && !seal.keep_ca_certificates);
}

/// The only device that the first template says something about.
fn headless() -> Hardware {
    Hardware { screen: Screen { headless: Some(true), ..Screen::default() }, ..Hardware::default() }
}

#[test]
fn a_child_starts_from_its_parents_machine() {
    let resolved = resolved();
    let base = &resolved.templates[1];
    let Builder::Qemu(machine) = &base.builder else { panic!("not a qemu builder") };
    let inherited = Machine {
        memory: Some(2048),
        cpus: Some(2),
        cpu_model: Some("max".to_owned()),
        ssh_timeout: Some(Duration::from_secs(90)),
        hardware: headless(),
        ..Machine::default()
    };
    assert_eq!(machine, &Machine { disk_size: Some(10 << 30), ..inherited.clone() });
    assert_eq!(resolved.templates[2].builder.machine(), &inherited);

    assert_eq!(labels(&base.provisioners), ["reboot", "/etc/visa", "/etc/visa/guacd", "reboot again"]);
    assert_eq!(shell(&base.provisioners[3]).pause_after, Some(Duration::from_millis(500)));
    assert!(shell(&base.provisioners[3]).expect_disconnect);
    assert_eq!(copies(&base.provisioners[1]), (vec!["templates/visa-base/files"], "/etc/visa", Some(0o644)));
    let Action::File(copy) = &base.provisioners[1].action else { panic!("not a file provisioner") };
    let FileSource::Paths(paths) = &copy.source else { panic!("not paths") };
    assert!(paths[0].contents_only && paths[0].path.is_dir());
    let content = vec!["method = source\nlocale = fr_FR.UTF-8\n"];
    assert_eq!(copies(&base.provisioners[2]), (content, "/etc/visa/guacd", None));
}

#[test]
fn the_last_template_has_its_packages_and_its_parents_sealing() {
    let resolved = resolved();
    let apps = &resolved.templates[2];
    assert_eq!(labels(&apps.provisioners), ["echo visa-apps 4096 vi", "/etc/sssd/sssd.conf", "/etc/sssd/conf.d/"]);
    let shell = shell(&apps.provisioners[0]);
    let ShellSource::Inline(lines) = &shell.source else { panic!("not inline") };
    let lines: Vec<_> = lines.iter().map(visabuild::template::Text::plain).collect();
    assert_eq!(lines, ["echo visa-apps 4096 vi", "echo source {{ .HTTPIP }}"]);
    assert_eq!(shell.execute_command.plain(), "env {{ .Vars }} LC_ALL=fr_FR.UTF-8 {{ .Path }}");
    assert_eq!(shell.valid_exit_codes, [0, 3]);
    assert_eq!(apps.provisioners[0].timeout, Some(Duration::from_secs(300)));
    let own = vec!["packages/sssd/visa-apps/sssd.conf"];
    assert_eq!(copies(&apps.provisioners[1]), (own, "/etc/sssd/sssd.conf", Some(0o600)));
    let shared = vec!["packages/sssd/common.conf", "scripts/update.sh"];
    assert_eq!(copies(&apps.provisioners[2]).0, shared);

    let password = apps.seal.root_password.as_ref().unwrap();
    assert_eq!((password.plain(), password.masked()), ("hunter2", "‹secret:root_password›"));
    assert!(apps.seal.keep_ca_certificates && !resolved.templates[1].seal.keep_ca_certificates);
    assert_eq!(labels(&apps.seal.provisioners), ["/etc/visa/public.pem", "echo sealing visa-apps"]);
    let Action::File(copy) = &apps.seal.provisioners[0].action else { panic!("not a file provisioner") };
    let FileSource::Paths(paths) = &copy.source else { panic!("not paths") };
    assert_eq!(
        (paths[0].path.clone(), paths[0].shown.as_str()),
        (root().join("config.yml"), "‹secret:pam_public_key›")
    );
    assert!(paths[0].secrets.contains("pam_public_key"));
}

#[test]
fn nothing_shown_has_a_secret() {
    let resolved = resolved();
    let shown = format!("{resolved:?}");
    let json = serde_json::to_string(&resolved.templates[2].provisioners).unwrap();
    assert!(!shown.contains("hunter2") && !json.contains("hunter2"));
}

#[test]
fn alternatives_are_offered_in_order_and_recorded() {
    let project = load(&root()).unwrap();
    let offered = project.alternatives(&[], &inputs()).unwrap();
    assert_eq!(offered.len(), 1);
    let guacd = &offered[0];
    assert_eq!((guacd.variable.as_str(), guacd.template.as_str(), &guacd.named), ("guacd_method", "visa-base", &None));
    assert_eq!(guacd.choices[0].urls[0].plain(), "https://example.org/guacamole-1.11.tar.gz");
    assert_eq!((guacd.choices[1].suite.as_deref(), guacd.choices[1].end_of_life), (Some("bullseye"), true));

    let refused = resolve(&project, &[], &inputs()).unwrap_err();
    let problem = &refused.problem_list()[0];
    assert_eq!(
        (problem.to_string().as_str(), problem.hint.as_deref()),
        (
            "templates/visa-base/manifest.yml:29:3: no alternative was chosen for `guacd_method`",
            Some("name one: `source`, `debian`")
        )
    );
    let mut open = inputs();
    open.values.insert("guacd_method".to_owned(), Value::Plain("auto".to_owned()));
    assert_eq!(project.alternatives(&[], &open).unwrap()[0].named, None);
    let lenient = resolve(&project, &[], &Inputs { lenient: true, ..inputs() }).unwrap();
    assert!(lenient.templates[1].alternatives.is_empty());
    assert!(copies(&lenient.templates[1].provisioners[2]).0[0].starts_with("method = auto\n"));

    let chosen = &resolved().templates[2].alternatives["guacd_method"];
    assert_eq!((chosen.value.as_str(), chosen.how.as_str()), ("source", "reachable"));
    let mut named = inputs();
    named.values.insert("guacd_method".to_owned(), Value::Plain("debian".to_owned()));
    let resolved = resolve(&project, &[], &named).unwrap();
    let chosen = &resolved.templates[1].alternatives["guacd_method"];
    assert_eq!((chosen.value.as_str(), chosen.how.as_str(), chosen.end_of_life), ("debian", "named", true));
    assert_eq!(chosen.warning.as_deref(), Some("Debian 11 is past its end of life"));
}

#[test]
fn values_not_given_stand_in_or_come_from_the_environment() {
    let project = load(&root()).unwrap();
    let missing = |option: &str| Value::Missing { option: option.to_owned(), variable: "VISA_X".to_owned() };
    let mut inputs = decided(&[]);
    inputs.values.insert("root_password".to_owned(), missing("-rp"));
    inputs.values.insert("pam_public_key".to_owned(), missing("-pp"));
    inputs.lenient = true;
    let resolved = resolve(&project, &[], &inputs).unwrap();
    let password = resolved.templates[2].seal.root_password.as_ref().unwrap();
    assert_eq!(password.plain(), "‹secret:root_password›");

    inputs.environment.insert("root_password".to_owned(), "hunter3".to_owned());
    let resolved = resolve(&project, &[], &inputs).unwrap();
    let password = resolved.templates[2].seal.root_password.as_ref().unwrap();
    assert_eq!((password.plain(), password.masked()), ("hunter3", "‹secret:root_password›"));
}
