//! Made-up reports for tests.

use crate::verify::contract::Level;
use crate::verify::report::{BootReport, CheckReport, Component, Failure, Outcome, Report};

/// A report without anything.
pub(super) fn empty() -> Report {
    Report {
        image: "visa-apps.qcow2".into(),
        sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        contract: "visa".into(),
        contract_sha256: "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752".into(),
        visabuild: "0.1.0".into(),
        started: "2026-03-05T10:11:12Z".into(),
        seconds: 0.0,
        accelerator: None,
        components: Vec::new(),
        boots: Vec::new(),
        checks: Vec::new(),
        pictures: Vec::new(),
    }
}

/// A report with every outcome.
pub(super) fn report() -> Report {
    Report {
        seconds: 312.4,
        accelerator: Some("kvm".into()),
        components: vec![
            component("guacamole", true, "guacd.service is there"),
            component("xrdp", true, "xrdp.service is there"),
            component("jupyter", false, "no jupyter.service"),
        ],
        boots: boots(),
        checks: checks(),
        pictures: vec!["the desktop".into()],
        ..empty()
    }
}

/// A report whose every text is `text`.
pub(super) fn hostile(text: &str) -> Report {
    let own = || text.to_owned();
    let failure = Failure { probe: own(), expected: own(), seen: own(), look: Some(own()) };
    let outcomes = [
        Outcome::Passed,
        Outcome::Failed { failures: vec![failure] },
        Outcome::NotRun { why: own(), not_given: false },
        Outcome::Skipped,
        Outcome::NotApplicable { why: own() },
    ];
    let checks = outcomes.into_iter().map(|outcome| CheckReport {
        id: own(),
        statement: own(),
        level: Level::Boot,
        boot: Some(own()),
        outcome,
        seconds: f64::NAN,
    });
    Report {
        image: own().into(),
        sha256: own(),
        contract: own(),
        contract_sha256: own(),
        visabuild: own(),
        started: own(),
        seconds: f64::INFINITY,
        accelerator: Some(own()),
        components: vec![component(text, true, text), component(text, false, text)],
        boots: vec![BootReport {
            name: own(),
            description: own(),
            failure: Some(own()),
            seconds: -1.0,
            times: vec![(own(), f64::NAN), (own(), -3.0), (own(), f64::INFINITY)],
            serial_tail: vec![own(), own()],
        }],
        checks: checks.collect(),
        pictures: vec![own()],
    }
}

fn component(name: &str, applies: bool, why: &str) -> Component {
    Component { name: name.into(), applies, why: why.into() }
}

fn boots() -> Vec<BootReport> {
    let times = [("port 22", 8.3), ("SSH", 9.1), ("port 4822", 10.4), ("owner's account", 12.0)];
    let serial = ["[    0.000000] Linux version 6.12", "[  OK  ] Started guacd.service", "visa login: "];
    vec![
        BootReport {
            name: "bios".into(),
            description: "BIOS, ConfigDrive, no boot command".into(),
            failure: None,
            seconds: 62.0,
            times: times.map(|(event, seconds)| (event.to_owned(), seconds)).into(),
            serial_tail: serial.map(str::to_owned).into(),
        },
        BootReport {
            name: "uefi".into(),
            description: "UEFI, metadata service".into(),
            failure: Some("SSH did not answer within 3 min\nthe last line was: Kernel panic - not syncing".into()),
            seconds: 180.0,
            times: Vec::new(),
            serial_tail: vec!["\x1b[1mKernel panic\x1b[0m - not syncing: VFS".into(), "---[ end ]---\x07".into()],
        },
    ]
}

fn checks() -> Vec<CheckReport> {
    let log: String = (1..=40).map(|n| format!("guacd[712]: INFO: line {n} of the journal\n")).collect();
    let failures = vec![
        failure("port 4822", "listens on 127.0.0.1 only", "0.0.0.0:4822 (guacd)", Some("/etc/guacamole/guacd.conf")),
        failure("journal of guacd.service", "no error", &log, Some("journalctl -u guacd")),
    ];
    let umlaut =
        "the image's locale is de_DE.UTF-8, so that names such as „Größe“ and 你好 are shown rightly everywhere";
    let why = "boot `uefi` did not come up";
    vec![
        check("META-1", "the image is a qcow2 of version 3", Level::Static, None, Outcome::Passed, 0.04),
        check("META-2", umlaut, Level::Static, None, Outcome::Passed, 0.3),
        check("META-3", "no key of the builder is left", Level::Static, None, Outcome::Skipped, 0.0),
        check("GUAC-1", "guacd.service runs", Level::Boot, Some("bios"), Outcome::Passed, 1.2),
        check("GUAC-2", "guacd listens on 127.0.0.1:4822 only", Level::Boot, Some("bios"), failed(failures), 0.3),
        check("NET-1", "SSH answers", Level::Net, Some("bios"), Outcome::Passed, 9.1),
        check("NET-2", "an RDP session shows a desktop", Level::Net, Some("bios"), no_desktop(), 74.5),
        check("NET-3", "SSH answers after a UEFI boot", Level::Net, Some("uefi"), not_run(why), 0.0),
        check("JUP-1", "jupyter answers at port 8888", Level::Net, Some("bios"), no_jupyter(), 0.0),
        check("JUP-2", "jupyter asks for a token", Level::Net, Some("bios"), no_jupyter(), 0.0),
        check("LIFE-1", "a power cut loses nothing", Level::Life, Some("bios"), Outcome::Passed, 31.0),
        check("LIFE-2", "a restart comes up again", Level::Life, Some("uefi"), not_run(why), 0.0),
    ]
}

fn check(id: &str, statement: &str, level: Level, boot: Option<&str>, outcome: Outcome, seconds: f64) -> CheckReport {
    CheckReport { id: id.into(), statement: statement.into(), level, boot: boot.map(str::to_owned), outcome, seconds }
}

fn failure(probe: &str, expected: &str, seen: &str, look: Option<&str>) -> Failure {
    Failure { probe: probe.into(), expected: expected.into(), seen: seen.into(), look: look.map(str::to_owned) }
}

fn failed(failures: Vec<Failure>) -> Outcome {
    Outcome::Failed { failures }
}

fn no_desktop() -> Outcome {
    failed(vec![failure("RDP picture", "more than 50 colours", "", None)])
}

fn not_run(why: &str) -> Outcome {
    Outcome::NotRun { why: why.into(), not_given: false }
}

fn no_jupyter() -> Outcome {
    Outcome::NotApplicable { why: "no jupyter.service".into() }
}
