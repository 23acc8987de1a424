use serde_json::{Value, json};

use super::*;

fn record() -> Record {
    serde_json::from_value(json!({
        "version": 1, "template": "visa apps", "description": "Desktop\n", "created": "2026-11-21T11:50:00Z",
        "visabuild": "0.1.0", "commit": "abc", "os": {"id": "debian", "version": "13"},
        "image": {"file": "visa apps.qcow2", "size": 1, "sha256": "a".repeat(64), "sha512": "b".repeat(128)},
        "inputs": {"seal_fingerprint": "f"},
        "packages": {"libstdc++6": "1:14.2+x~y-1"},
        "inventory": {
            "debian": [{"name": "libstdc++6", "version": "1:14.2+x~y-1", "architecture": "amd64", "source": "gcc-14",
                "supplier": "Debian GCC Maintainers <debian-gcc@lists.debian.org>", "homepage": "https://gcc.gnu.org/"}],
            "python": [
                {"name": "Ruamel.YAML", "version": "0.18", "license": "MIT", "path": "/opt/b"},
                {"name": "ruamel_yaml", "version": "0.18", "path": "/opt/a"},
                {"name": "PyYAML", "version": "6", "path": "/usr", "owner": "python3-yaml"}
            ],
            "npm": [{"name": "@jupyterlab/core", "version": "4.0.0", "license": "BSD", "path": "/usr/local/lib"}]
        }
    }))
    .unwrap()
}

fn parsed(format: Format) -> Value {
    serde_json::from_str(&bill(&record(), format).unwrap()).unwrap()
}

#[test]
fn the_same_manifest_gives_the_same_bytes_and_another_image_another_id() {
    for format in [Format::Spdx, Format::CycloneDx] {
        let text = bill(&record(), format).unwrap();
        assert_eq!(bill(&record(), format).unwrap(), text);
        let mut other = record();
        other.image.sha256 = "c".repeat(64);
        assert_ne!(uuid(&other, format), uuid(&record(), format));
    }
    assert_ne!(uuid(&record(), Format::Spdx), uuid(&record(), Format::CycloneDx));
}

#[test]
fn spdx_says_what_is_known_and_no_more() {
    let bill = parsed(Format::Spdx);
    let packages = bill["packages"].as_array().unwrap();
    let names: Vec<_> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["visa apps", "libstdc++6", "Ruamel.YAML", "@jupyterlab/core"]);
    assert_eq!(packages[1]["supplier"], "Organization: Debian GCC Maintainers (debian-gcc@lists.debian.org)");
    assert_eq!(packages[1]["sourceInfo"], "built from the source package gcc-14");
    assert_eq!(packages[1]["licenseDeclared"], "NOASSERTION");
    assert_eq!(packages[2]["licenseDeclared"], "MIT");
    assert_eq!(packages[2]["comment"], "installed in /opt/a, /opt/b");
    assert_eq!(packages[3]["licenseComments"], "declared as: BSD");
    let purls: Vec<_> = packages.iter().filter_map(|one| one["externalRefs"][0]["referenceLocator"].as_str()).collect();
    let wanted = [
        "pkg:deb/debian/libstdc%2B%2B6@1:14.2%2Bx~y-1?arch=amd64&distro=debian-13",
        "pkg:pypi/ruamel-yaml@0.18",
        "pkg:npm/%40jupyterlab/core@4.0.0",
    ];
    assert_eq!(purls, wanted);
    assert_eq!(bill["relationships"].as_array().unwrap().len(), 4);
    let namespace = bill["documentNamespace"].as_str().unwrap();
    assert!(namespace.starts_with("https://spdx.org/spdxdocs/visa%20apps-"), "{namespace}");
}

#[test]
fn cyclonedx_has_one_component_with_all_its_places() {
    let bill = parsed(Format::CycloneDx);
    let components = bill["components"].as_array().unwrap();
    assert_eq!(components.len(), 3);
    assert_eq!(components[1]["evidence"]["occurrences"], json!([{"location": "/opt/a"}, {"location": "/opt/b"}]));
    assert_eq!((&components[2]["group"], &components[2]["name"]), (&json!("@jupyterlab"), &json!("core")));
    assert_eq!(components[2]["licenses"], json!([{"license": {"name": "BSD"}}]));
    assert_eq!(bill["dependencies"][0]["dependsOn"].as_array().unwrap().len(), 3);
    assert_eq!(bill["metadata"]["component"]["hashes"][0]["content"], "a".repeat(64));
}

#[test]
fn a_manifest_of_an_earlier_visabuild_has_the_packages_of_the_system() {
    let mut older = serde_json::to_value(json!({
        "version": 1, "template": "t", "created": "2026-11-21T11:50:00Z", "visabuild": "0.1.0", "commit": null,
        "os": {"id": "rocky", "version": "9.5"}, "inputs": {"seal_fingerprint": "f"},
        "image": {"file": "t.qcow2", "size": 1, "sha256": "a", "sha512": "b"}, "packages": {"bash": "5.1-1"}
    }))
    .unwrap();
    let bill =
        |manifest: &Value| super::bill(&serde_json::from_value(manifest.clone()).unwrap(), Format::Spdx).unwrap();
    assert!(bill(&older).contains("\"pkg:rpm/rocky/bash@5.1-1?distro=rocky-9.5\""));
    older["os"] = Value::Null;
    assert!(bill(&older).contains("\"pkg:deb/bash@5.1-1\""));
}
