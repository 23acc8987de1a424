//! A build publishes what keeps its contract, and nothing else. The contracts here need no boot, and so
//! the whole takes seconds.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use serde_json::Value;
use support::bench::{Bench, QUICK};
use support::told;
use visabuild::engine::Engine;

fn project(expected: &str) -> Bench {
    let bench = Bench::new(Engine::Nspawn, QUICK);
    contract(&bench, expected);
    let manifest = bench.folder.path().join("templates/tiny/manifest.yml");
    let text = fs::read_to_string(&manifest).unwrap() + "\nverify:\n  contract: own.yml\n";
    fs::write(manifest, text).unwrap();
    bench
}

/// One check of the file that the template's step writes.
fn contract(bench: &Bench, expected: &str) {
    let text = format!(
        "name: own\nchecks:\n  - id: OWN-1\n    statement: The file says what it should\n    level: static\n    look: the step of tiny\n    probes:\n      - file: /etc/quick\n        equals: {expected}\n"
    );
    fs::write(bench.folder.path().join("templates/tiny/own.yml"), text).unwrap();
}

#[test]
fn nspawn_an_image_that_fails_its_contract_is_not_published_and_an_earlier_one_stays() {
    let bench = project("quick");
    let (out, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("tiny: contract `own`: 1 checks passed, 0 failed, 0 not run"), "{err}");
    let image = bench.results().join("tiny.qcow2");
    let published = fs::metadata(&image).unwrap().modified().unwrap();
    let report: Value =
        serde_json::from_slice(&fs::read(bench.results().join("tiny.verification.json")).unwrap()).unwrap();
    assert_eq!(report["verdict"], "passed", "{out}");

    // Nothing changed: nothing is verified again.
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert!(!err.contains("contract `own`"), "{err}");

    // Another contract is proved without building anew; what it finds does not take the image away.
    contract(&bench, "slow");
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("error: OWN-1: The file says what it should; file /etc/quick: seen quick"), "{err}");
    assert!(!err.contains("start the container"), "{err}");
    assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), published);

    // A new image that does not keep it is not published.
    let (_, err, code) = told(&bench.build_by(Engine::Nspawn, "another-password").output().unwrap());
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("OWN-1") && err.contains("tiny.failed.qcow2"), "{err}");
    assert_eq!(fs::metadata(&image).unwrap().modified().unwrap(), published);
    assert!(bench.results().join("tiny.failed.qcow2").is_file());
    assert!(fs::read_to_string(bench.results().join("failure/reason.txt")).unwrap().contains("OWN-1"));
    assert!(fs::read_to_string(bench.results().join("failure/failure.json")).unwrap().contains("\"not-verified\""));
    assert!(bench.results().join("failure/verification.html").is_file());

    // Unless it is asked for.
    let mut command = bench.build_by(Engine::Nspawn, "another-password");
    let (_, err, code) = told(&command.arg("--no-verify").output().unwrap());
    assert_eq!(code, 0, "{err}");
    assert_ne!(fs::metadata(&image).unwrap().modified().unwrap(), published);
    assert!(!bench.results().join("tiny.failed.qcow2").exists());
}

#[test]
fn a_contract_that_is_not_there_or_faulty_is_told_before_anything_is_done() {
    let bench = project("quick");
    fs::write(bench.folder.path().join("templates/tiny/own.yml"), "name: own\nchecks: [{id: A-1}]\n").unwrap();
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("own.yml:2:10: `statement` is missing"), "{err}");
    fs::remove_file(bench.folder.path().join("templates/tiny/own.yml")).unwrap();
    let (_, err, code) = told(&bench.build().output().unwrap());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("`own.yml` does not exist"), "{err}");
}
