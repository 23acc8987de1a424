//! Everything about the host at once, for `visabuild doctor` and for preflight.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use walkdir::WalkDir;

use super::accelerator::{self, Request};
use super::certificates::{Certificate, Certificates};
use super::distribution::Distribution;
use super::reach::{Choice, Outcome, Prober, Proxy};
use super::resources::{self, Namespaces, Need};
use super::tools;
use super::{Finding, State};
use super::{machines, nspawn};
use crate::credentials;
use crate::engine::Engine;
use crate::error::Result;
use crate::machine::{self, Accelerator};
use crate::template::Machine;

/// An APT archive that a build takes packages from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Its URI, as in APT's sources.
    pub uri: String,
    /// The suite that it has to serve.
    pub suite: String,
}

/// What is examined, and the facts that only the caller has.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The search path for programs (the variable PATH).
    pub search_path: OsString,
    /// The user's number; 0 is root.
    pub uid: u32,
    /// The user's login name.
    pub login: String,
    /// The engine asked for.
    pub engine: Engine,
    /// Say too whether an engine that was not asked for could run.
    pub other_engines: bool,
    /// An installer runs in QEMU, whatever the engine.
    pub installer: bool,
    /// The accelerator asked for, of QEMU.
    pub accelerator: Request,
    /// Disk space that a build takes.
    pub disk: Vec<Need>,
    /// Memory that the largest guest gets, MiB.
    pub memory: u64,
    /// The cache folder.
    pub cache: PathBuf,
    /// How requests leave the host.
    pub proxy: Proxy,
    /// Archives that have to answer.
    pub mirrors: Vec<Mirror>,
    /// What the archives are verified with, or why there is nothing: a sentence each.
    pub keyring: Option<Result<String, String>>,
    /// Where else content comes from; one place of each is enough.
    pub alternatives: Vec<Choice>,
    /// The package index for the guest's pip.
    pub pip_index: Option<String>,
    /// The site's certificate authorities.
    pub certificates: Certificates,
    /// The machines of the templates that are built.
    pub machines: Vec<Machine>,
    /// Socket of the user's SSH agent.
    pub agent: Option<PathBuf>,
}

/// Examines the host; findings come in a stable order.
///
/// # Errors
/// The proxy's URL or a certificate cannot be used (kind usage).
pub async fn examine(options: &Options) -> Result<Vec<Finding>> {
    let prober = Prober::new(&options.proxy, &options.certificates.certificates)?;
    let host = Distribution::of_host();
    let detection = accelerator::detect();
    let kvm = accelerator::choose(options.accelerator, &detection).is_ok_and(|chosen| chosen == Accelerator::Kvm);

    let mut findings = match options.engine {
        Engine::Qemu => {
            let mut findings = vec![accelerator::examine(options.accelerator, &detection)];
            if options.other_engines {
                findings.push(nspawn::possible(&options.search_path, &host).await);
            }
            findings
        }
        Engine::Nspawn => {
            let mut findings = nspawn::examine(&options.search_path, &host).await;
            if options.installer {
                findings.push(accelerator::examine(options.accelerator, &detection));
            }
            findings
        }
    };
    let qemu = (options.engine == Engine::Qemu || options.installer).then_some(kvm);
    findings.extend(tools::examine(&options.search_path, options.uid == 0, qemu, &host).await);
    findings.extend(machines::examine(
        &options.machines,
        qemu.is_some(),
        &options.search_path,
        options.agent.as_deref(),
        &host,
    ));
    if options.other_engines {
        findings.push(verification(&host));
        findings.push(machines::tpm_is_possible(&options.search_path));
    }
    if options.uid != 0 {
        findings.push(Namespaces::of_host().judge(&options.login, options.uid));
    }
    findings.push(resources::judge_cpus(resources::host_cpus()));
    findings.push(resources::judge_memory(resources::host_memory(), options.memory));
    findings.extend(resources::disk(&options.disk));
    findings.push(cache(&options.cache));
    findings.extend(options.keyring.as_ref().map(keyring));
    findings.extend(network(&prober, options).await);
    findings.push(certificates(&options.certificates));
    Ok(findings)
}

/// What `verify`, and so a build, boots images with beside QEMU.
fn verification(host: &Distribution) -> Finding {
    let name = "UEFI firmware";
    if machine::has_uefi() {
        return Finding::ok(name, "images can be booted by UEFI, too");
    }
    Finding::warning(name, "there is none: images cannot be verified").hint(host.install("ovmf"))
}

fn cache(folder: &Path) -> Finding {
    let name = "cache";
    let shown = folder.display();
    if !folder.exists() {
        return Finding::ok(name, format!("{shown}, not there yet"));
    }
    // A file that vanishes while it is counted, or cannot be seen, takes no part in a rough figure.
    let files = WalkDir::new(folder).into_iter().filter_map(Result::ok).filter_map(|entry| entry.metadata().ok());
    // stat(2): a block is 512 bytes; images are sparse, so their length says too much.
    let bytes: u64 = files.map(|metadata| metadata.blocks() * 512).sum();
    Finding::ok(name, format!("{shown}, {} MiB", bytes >> 20))
}

fn keyring(known: &Result<String, String>) -> Finding {
    match known {
        Ok(what) => Finding::ok("keyring", what),
        Err(why) => Finding::problem("keyring", why).hint("install the package `debian-archive-keyring`"),
    }
}

async fn network(prober: &Prober, options: &Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Mirror { uri, suite } in &options.mirrors {
        let shown = credentials::strip(uri);
        findings.push(match prober.serves_suite(uri, suite).await {
            Ok(()) => Finding::ok("mirror", format!("{shown} serves {suite}")),
            Err(error) => Finding::problem("mirror", error.chain().join(": "))
                .hint("give the proxy with `-hp/--http-proxy`, or name another mirror"),
        });
    }
    findings.extend(prober.first_reachable(&options.alternatives).await.iter().map(alternative));
    if let Some(index) = &options.pip_index {
        findings.push(match prober.reach(index).await {
            Ok(()) => Finding::ok("pip index", credentials::strip(index)),
            Err(error) => Finding::warning("pip index", error.chain().join(": ")),
        });
    }
    findings
}

fn alternative(outcome: &Outcome) -> Finding {
    let name = format!("alternative {}", outcome.name);
    match &outcome.reachable {
        Some(url) => Finding::ok(name, format!("{} answers", credentials::strip(url))),
        None => {
            let causes: Vec<&str> = outcome.failures.iter().map(|failure| failure.cause.as_str()).collect();
            Finding::warning(name, format!("not reachable: {}", causes.join("; ")))
        }
    }
}

fn certificates(found: &Certificates) -> Finding {
    let names: Vec<&str> = found.certificates.iter().map(|Certificate { name, .. }| name.as_str()).collect();
    let what = match names.len() {
        0 => "none beside the distribution's".to_owned(),
        _ => format!("the guest is given those that this host adds: {}", names.join(", ")),
    };
    if found.passed_over.is_empty() {
        return Finding::ok("certificates", what);
    }
    Finding::warning("certificates", format!("{what}; passed over: {}", found.passed_over.join("; ")))
}

/// The findings as a table for people.
pub fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "problem",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:width$}  {state:7}  {}", finding.name, finding.what);
        if let Some(hint) = &finding.hint {
            let _ = writeln!(text, "{:width$}           {hint}", "");
        }
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let _ = match (count(State::Problem), count(State::Warning)) {
        (0, 0) => writeln!(text, "This host can build images."),
        (0, warnings) => writeln!(text, "This host can build images. Warnings: {warnings}."),
        (problems, warnings) => {
            writeln!(text, "This host cannot build images yet. Problems: {problems}, warnings: {warnings}.")
        }
    };
    text
}

/// The findings as JSON: `{"able": …, "findings": [{"name", "state", "what", "hint"}, …]}`.
pub fn json(findings: &[Finding]) -> serde_json::Value {
    #[derive(Serialize)]
    struct Report<'a> {
        able: bool,
        findings: &'a [Finding],
    }
    let able = findings.iter().all(|finding| finding.state != State::Problem);
    // Strings and a boolean always serialise.
    serde_json::to_value(Report { able, findings }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::reach::Failure;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("gpgv", "/usr/bin/gpgv, version 2.2.40"),
            Finding::warning("accelerator", "there is no /dev/kvm; using emulation"),
            Finding::problem("qemu-img", "is not on this host").hint("`apt-get install qemu-utils`"),
        ]
    }

    #[test]
    fn the_table_lines_up_and_ends_with_the_verdict() {
        let expected = "\
gpgv         ok       /usr/bin/gpgv, version 2.2.40
accelerator  warning  there is no /dev/kvm; using emulation
qemu-img     problem  is not on this host
                      `apt-get install qemu-utils`
This host cannot build images yet. Problems: 1, warnings: 1.
";
        assert_eq!(table(&findings()), expected);
        assert!(table(&findings()[..1]).ends_with("This host can build images.\n"));
        assert!(table(&findings()[..2]).ends_with("This host can build images. Warnings: 1.\n"));
    }

    #[test]
    fn json_says_the_same() {
        let report = json(&findings());
        assert_eq!(report["able"], false);
        assert_eq!(report["findings"][1]["state"], "warning");
        assert_eq!(report["findings"][2]["hint"], "`apt-get install qemu-utils`");
        assert!(report["findings"][0].get("hint").is_none());
        assert_eq!(json(&findings()[..2])["able"], true);
    }

    #[tokio::test]
    async fn everything_that_a_build_needs_is_examined() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("layer"), vec![1; 3 << 20]).unwrap();
        let archive = folder.path().join("archive");
        std::fs::create_dir_all(archive.join("dists/trixie")).unwrap();
        std::fs::write(archive.join("dists/trixie/InRelease"), "").unwrap();
        let mirror = |suite: &str| Mirror { uri: format!("file:{}", archive.display()), suite: suite.to_owned() };
        let options = Options {
            search_path: folder.path().into(),
            uid: 1000,
            login: "joe".to_owned(),
            accelerator: Request::Tcg,
            disk: vec![Need { name: "cache".to_owned(), path: folder.path().to_owned(), bytes: 1 }],
            memory: 1,
            cache: folder.path().to_owned(),
            mirrors: vec![mirror("trixie"), mirror("forky")],
            keyring: Some(Err("no keyring".to_owned())),
            alternatives: vec![Choice { name: "source".to_owned(), urls: Vec::new() }],
            pip_index: Some(format!("file:{}/none", folder.path().display())),
            ..Options::default()
        };
        let findings = examine(&options).await.unwrap();
        let of = |name: &str| {
            findings.iter().filter(|finding| finding.name == name).map(|finding| finding.state).collect::<Vec<_>>()
        };
        assert_eq!(of("accelerator"), [State::Ok]);
        assert_eq!(of("mirror"), [State::Ok, State::Problem]);
        assert_eq!(of("keyring"), [State::Problem]);
        assert_eq!(of("alternative source"), [State::Warning]);
        assert_eq!(of("pip index"), [State::Warning]);
        assert_eq!(of("user namespaces").len(), 1);
        assert_eq!([of("disk"), of("memory"), of("cache"), of("certificates")], [[State::Ok]; 4]);
        let cache = findings.iter().find(|finding| finding.name == "cache").unwrap();
        assert!(cache.what.ends_with(", 3 MiB"), "{}", cache.what);
    }

    #[test]
    fn an_alternative_that_is_out_of_reach_tells_every_cause() {
        let failure = |cause: &str| Failure { url: "u".to_owned(), cause: cause.to_owned() };
        let outcome =
            Outcome { name: "source".to_owned(), reachable: None, failures: vec![failure("a"), failure("b")] };
        assert_eq!(alternative(&outcome).what, "not reachable: a; b");
    }

    #[test]
    fn certificates_passed_over_are_a_warning() {
        let found = Certificates { certificates: Vec::new(), passed_over: vec!["x.crt: is damaged".to_owned()] };
        assert_eq!(certificates(&found).state, State::Warning);
    }
}
