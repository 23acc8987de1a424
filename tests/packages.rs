//! The packages that the repository has for sites: all of them resolve, and VISA's two servers, built into a container
//! from a registry of npm and an archive that stand in for the real ones, do what OPT-1 to OPT-4 of the VISA image
//! contract say.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use support::bench::Bench;
use support::{repository, told, visabuild};
use visabuild::engine::Engine;

/// What must be in a project beside its templates.
fn with_packages(folder: &Path) {
    symlink(repository().join("scripts"), folder.join("scripts")).unwrap();
    fs::create_dir(folder.join("packages")).unwrap();
    for entry in fs::read_dir(repository().join("packages")).unwrap().flatten() {
        symlink(entry.path(), folder.join("packages").join(entry.file_name())).unwrap();
    }
}

#[test]
fn all_packages_resolve_on_the_shipped_templates() {
    let project = tempfile::tempdir().unwrap();
    with_packages(project.path());
    symlink(repository().join("templates"), project.path().join("templates")).unwrap();
    let mut names: Vec<_> = fs::read_dir(repository().join("packages"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["nfs-home", "sssd-ldap", "visa-files", "visa-print"]);
    fs::write(
        project.path().join("config.yml"),
        format!(
            "templates:\n  system-base:\n  visa-base:\n    extends: system-base\n    packages: [{}]\n",
            names.join(", ")
        ),
    )
    .unwrap();
    let plan = |package: Option<&str>| {
        let mut command = visabuild();
        command.args(["plan", "--json", "-C"]).arg(project.path());
        for (name, value) in [
            ("ldap_uri", "ldaps://ldap.example.org"),
            ("ldap_base", "dc=example,dc=org"),
            ("nfs_home_source", "nfs.example.org:/home"),
        ] {
            command.env(name, value);
        }
        if let Some(package) = package {
            command.env("visa_files_package", package);
        }
        let (out, err, code) = told(&command.output().unwrap());
        assert_eq!(code, 0, "{err}");
        let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
        plan["stages"][1]["steps"].as_array().unwrap().clone()
    };
    let shipped = plan(None);
    let labels: Vec<_> = shipped.iter().map(|step| step["label"].as_str().unwrap()).collect();
    assert!(labels.ends_with(&[
        "NFS homes",
        "SSSD",
        "upload the file service",
        "files of the file service",
        "file service",
        "upload the print service",
        "files of the print service",
        "print service",
        "printer",
    ]));
    // What an archive's path is, and what is npm's business.
    fs::write(project.path().join("own-1.0.tgz"), "").unwrap();
    let uploaded = |steps: &[serde_json::Value]| {
        steps.iter().find(|step| step["label"] == "upload the file service").unwrap()["fingerprint"].clone()
    };
    assert_ne!(uploaded(&shipped), uploaded(&plan(Some("own-1.0.tgz"))));
    for spec in ["https://example.org/own-1.0.tgz", "@site/own@1.0", "git+https://example.org/own.git"] {
        let steps = plan(Some(spec));
        let installed = |steps: &[serde_json::Value]| {
            steps.iter().find(|step| step["label"] == "file service").unwrap()["fingerprint"].clone()
        };
        assert_eq!(uploaded(&shipped), uploaded(&steps), "{spec}");
        assert_ne!(installed(&shipped), installed(&steps), "{spec}");
    }
}

/// A registry of npm on the host's loopback that has `@illgrenoble/node-fs-api@0.9.3` and nothing else.
fn registry(archive: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The guest's npm asks for several things at once, and one that goes away is no matter.
            let archive = archive.clone();
            std::thread::spawn(move || {
                let _ = answer(&stream, &archive);
            });
        }
    });
    url
}

fn answer(mut stream: &TcpStream, archive: &[u8]) -> std::io::Result<()> {
    let (mut path, mut host) = (String::new(), String::new());
    for line in BufReader::new(stream).lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("GET", rest)) => path = rest.split(' ').next().unwrap_or_default().to_owned(),
            Some((name, value)) if name.eq_ignore_ascii_case("host:") => host = value.to_owned(),
            None => break,
            Some(_) => {}
        }
    }
    let (status, body) = if path.ends_with("/node-fs-api-0.9.3.tgz") {
        ("200 OK", archive.to_vec())
    } else if path.ends_with("/node-fs-api") || path.to_lowercase().ends_with("%2fnode-fs-api") {
        let package = fs::read(repository().join("tests/fixtures/node-service/package.json"))?;
        let mut package: serde_json::Value = serde_json::from_slice(&package)?;
        package["dist"] = serde_json::json!({ "tarball": format!("http://{host}/node-fs-api-0.9.3.tgz") });
        let name = package["name"].clone();
        let document = serde_json::json!({
            "name": name, "dist-tags": { "latest": "0.9.3" }, "versions": { "0.9.3": package }
        });
        ("200 OK", document.to_string().into_bytes())
    } else {
        ("404 Not Found", b"{\"error\": \"Not found\"}".to_vec())
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}

/// The stand-in as npm packs it, with `server` in place of its own if given.
fn archive(folder: &Path, server: Option<&str>) -> Vec<u8> {
    let package = folder.join("package");
    let fixture = repository().join("tests/fixtures/node-service");
    fs::create_dir_all(package.join("bin")).unwrap();
    for file in ["package.json", "bin/server"] {
        fs::copy(fixture.join(file), package.join(file)).unwrap();
    }
    if let Some(server) = server {
        fs::write(package.join("bin/server"), server).unwrap();
    }
    let packed = folder.join("packed.tgz");
    assert!(
        Command::new("tar").arg("-czf").arg(&packed).arg("-C").arg(folder).arg("package").status().unwrap().success()
    );
    fs::read(packed).unwrap()
}

/// A template with the first boot and what the packages bring from Debian, whose layer stays in the cache, and
/// another on it with `packages`.
fn project(packages: &str) -> Bench {
    let steps = format!(
        "    - type: file
      source: {}
      destination: /tmp
    - type: shell
      script: scripts/install-first-boot.sh
      environment_vars: [VISA_FIRST_BOOT_SOURCE=/tmp/first-boot]
    - type: shell
      inline: [apt-get install -q -y --no-install-recommends nodejs npm cups curl]",
        repository().join("templates/visa-base/first-boot").display()
    );
    let bench = Bench::new(Engine::Nspawn, &steps);
    let folder = bench.folder.path();
    with_packages(folder);
    fs::create_dir(folder.join("packages/proof")).unwrap();
    let fixture = repository().join("tests/fixtures/node-service");
    symlink(fixture.join("prove.sh"), folder.join("packages/proof/prove.sh")).unwrap();
    // A build that ends so leaves nothing in the cache, and proves it anew the next time.
    let proof = "provisioners:\n  - {type: shell, script: prove.sh}\n  - {type: shell, inline: [exit 42]}\n";
    fs::write(folder.join("packages/proof/manifest.yml"), proof).unwrap();
    let config = format!("templates:\n  tiny:\n  services:\n    extends: tiny\n    packages: [{packages}]\n");
    fs::write(folder.join("config.yml"), config).unwrap();
    bench
}

/// Builds the template with the packages; returns what was printed.
fn build(bench: &Bench, variables: &[(&str, &str)]) -> String {
    let mut command = bench.build();
    command.arg("services").envs(variables.iter().copied());
    let (out, err, code) = told(&command.output().unwrap());
    assert_eq!(code, 4, "{out}{err}");
    out + &err
}

#[test]
fn nspawn_the_owner_gets_files_and_a_printer_and_nobody_else_does() {
    let bench = project("visa-files, visa-print, proof");
    let folder = tempfile::tempdir().unwrap();
    let archive = archive(folder.path(), None);
    fs::write(bench.folder.path().join("stand-in-1.1.0.tgz"), &archive).unwrap();
    let url = registry(archive);
    let said = build(&bench, &[("npm_config_registry", &url), ("visa_print_package", "stand-in-1.1.0.tgz")]);
    assert!(said.contains("node-fs-api answers 401 401 200 without, with a wrong, and with its token"), "{said}");
    assert!(said.contains("visa-print-server answers 401 401 400"), "{said}");
    assert!(said.contains("all of it is so"), "{said}");
}

#[test]
fn nspawn_a_server_that_is_not_there_or_answers_everybody_is_refused() {
    let bench = project("visa-files");
    let url = registry(Vec::new());
    let none = [("npm_config_registry", url.as_str()), ("visa_files_package", "@illgrenoble/no-such-server@1.0.0")];
    let said = build(&bench, &none);
    assert!(said.contains("404 Not Found"), "{said}");
    assert!(said.contains("npm cannot install @illgrenoble/no-such-server@1.0.0"), "{said}");
    assert!(said.contains("set visa_files_package to what npm can install"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let open = "#!/usr/bin/env node\nconsole.log('open to all');\n\
                require('http').createServer((_, answer) => answer.end()).listen(process.env.NODE_FS_API_SERVER_PORT);\n";
    fs::write(bench.folder.path().join("open.tgz"), archive(folder.path(), Some(open))).unwrap();
    let said = build(&bench, &[("visa_files_package", "open.tgz")]);
    assert!(said.contains("node-fs-api answers 200 200 200 to GET /api/files/"), "{said}");
    assert!(said.contains("open to all"), "{said}");
}
