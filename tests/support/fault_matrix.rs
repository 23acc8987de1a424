//! Rows of the fault matrix: where an upload breaks, what happens there, and what must be left of it.

#![allow(dead_code, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::process::Child;

use crate::openstack::{Cloud, Content, Fault, FaultProxy, Rule, RuleId};
use crate::publishing::{Host, Told};

/// The name that all images of the matrix are uploaded for.
pub const NAME: &str = "visa-apps";

/// Length of a large image: more than what kernels keep of a connection that nobody reads.
pub const LARGE: u64 = 16 << 20;

/// A byte of it that is not sent before others were read.
pub const MIDDLE: u64 = LARGE / 4;

/// The path of an image's data.
pub const FILE: &str = "/file";

/// What is in Glance after the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// The new image, the old one behind it.
    New,
    /// What was there.
    Old,
    /// What was there, and perhaps an empty image later: it is written down.
    OldRecorded,
    /// What was there, and a half image that is written down.
    Half,
    /// What was there, and the whole image, which nobody knows to be whole; it is written down.
    Unjudged,
    /// What was there, and the whole image as a candidate.
    Candidate,
    /// Old and new image under one name.
    Both,
}

impl Remains {
    fn text(self) -> &'static str {
        match self {
            Self::New => "the new image is current, the old one hidden behind it",
            Self::Old => "what was there before; the old image is current",
            Self::OldRecorded => "what was there before; the next run looks whether the request came through later",
            Self::Half => "the old image is current; half an image, which the next run removes",
            Self::Unjudged => "the old image is current; the new one, hidden, which the next run takes over unsent",
            Self::Candidate => "the old image is current; the new one, hidden, which the next run promotes unsent",
            Self::Both => "both under the name; the next run hides the old one",
        }
    }

    /// Whether the image is there with all its data.
    fn whole(self) -> bool {
        matches!(self, Self::New | Self::Unjudged | Self::Candidate | Self::Both)
    }

    fn recorded(self) -> bool {
        matches!(self, Self::OldRecorded | Self::Half | Self::Unjudged)
    }
}

/// A row.
#[derive(Clone, Debug)]
#[must_use]
pub struct Row {
    broke: &'static str,
    happened: &'static str,
    glance: Vec<Rule>,
    keystone: Vec<Rule>,
    arguments: &'static [&'static str],
    large: bool,
    code: i32,
    says: &'static str,
    puts: usize,
    remains: Remains,
}

impl Row {
    /// A run that heals by itself and sends the image once.
    pub fn new(broke: &'static str, happened: &'static str) -> Self {
        Self {
            broke,
            happened,
            glance: Vec::new(),
            keystone: Vec::new(),
            arguments: &["--retries", "1"],
            large: false,
            code: 0,
            says: "",
            puts: 1,
            remains: Remains::New,
        }
    }

    pub fn at_glance(mut self, rule: Rule) -> Self {
        self.glance.push(rule);
        self
    }

    pub fn at_keystone(mut self, rule: Rule) -> Self {
        self.keystone.push(rule);
        self
    }

    /// The data break once.
    pub fn put(self, fault: Fault) -> Self {
        self.at_glance(Rule::new("PUT", FILE, fault).once())
    }

    pub fn with(mut self, arguments: &'static [&'static str]) -> Self {
        self.arguments = arguments;
        self
    }

    /// The image is a large one.
    pub fn large(mut self) -> Self {
        self.large = true;
        self
    }

    /// What the user sees of it.
    pub fn says(mut self, says: &'static str) -> Self {
        self.says = says;
        self
    }

    pub fn fails(mut self, code: i32, says: &'static str, remains: Remains) -> Self {
        (self.code, self.says, self.remains) = (code, says, remains);
        self
    }

    /// How often data are sent.
    pub fn puts(mut self, puts: usize) -> Self {
        self.puts = puts;
        self
    }

    pub fn title(&self) -> String {
        format!("{}: {}", self.broke, self.happened)
    }

    /// Its line in the documentation.
    fn line(&self) -> String {
        let says = match (self.code, self.says) {
            (-1, _) => "-".to_owned(),
            (code, "") => format!("exit {code}"),
            (code, says) => format!("exit {code}; “{says}”"),
        };
        format!("| {} | {} | {says} | {} |\n", self.broke, self.happened, self.remains.text())
    }
}

/// The rows as the documentation has them.
pub fn table(rows: &[Row]) -> String {
    let mut text = "| where it broke | what happened | what the user sees | what remained in Glance |\n".to_owned();
    text.push_str("|---|---|---|---|\n");
    for row in rows {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", row.line());
    }
    text
}

/// One cloud in which one row comes after the other, always for the same name.
#[derive(Debug)]
pub struct Bench {
    pub cloud: Cloud,
    images: u8,
}

/// One row's run, and what was there before it.
#[derive(Debug)]
pub struct Case {
    pub host: Host,
    pub image: PathBuf,
    before: Vec<Value>,
    began: Instant,
}

/// A run that has not ended.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.0.id().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub async fn ended(mut self) -> Told {
        let (mut out, mut err) = (self.0.stdout.take().unwrap(), self.0.stderr.take().unwrap());
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let (one, other, status) =
            tokio::join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr), self.0.wait());
        one.and(other).unwrap();
        Told { stdout, stderr, code: status.unwrap().code().unwrap_or(-1) }
    }
}

impl Bench {
    /// With an image that is current already.
    pub async fn new(cloud: Cloud) -> Self {
        let mut bench = Self { cloud, images: 0 };
        let row = Row::new("", "");
        let told = bench.case(&row).await.run(&row).await;
        assert_eq!(told.code, 0, "{told:?}");
        bench
    }

    /// Makes a host with an image that nobody has.
    pub async fn case(&mut self, row: &Row) -> Case {
        self.images += 1;
        let host = Host::new(&self.cloud);
        let image = if row.large { large(&host, self.images) } else { host.image(NAME, self.images) };
        Case { host, image, before: sorted(&self.cloud).await, began: Instant::now() }
    }

    /// The same image on another host.
    pub async fn case_like(&self, other: &Case) -> Case {
        let host = Host::new(&self.cloud);
        let image = host.path().join(other.image.file_name().unwrap());
        for ending in [image.extension().unwrap().to_str().unwrap(), "manifest.json"] {
            fs::copy(other.image.with_extension(ending), image.with_extension(ending)).unwrap();
        }
        Case { host, image, before: sorted(&self.cloud).await, began: Instant::now() }
    }

    /// How often data were sent.
    pub fn puts(&self) -> usize {
        puts(&self.cloud.glance)
    }

    /// Lets each row happen.
    pub async fn all(&mut self, rows: Vec<Row>) {
        for row in &rows {
            let case = self.case(row).await;
            self.add(row);
            let told = case.run(row).await;
            self.judge(row, &case, &told).await;
        }
    }

    /// Lets the row happen, with something beside it once its first rule at Glance is reached.
    pub async fn reaching(&mut self, row: &Row, beside: impl AsyncFnOnce(&Self, &Case, &Running)) {
        let case = self.case(row).await;
        let rule = self.add(row)[0];
        let running = case.start(row);
        self.cloud.glance.reached(rule).await;
        beside(self, &case, &running).await;
        let told = running.ended().await;
        self.judge(row, &case, &told).await;
    }

    /// Adds the row's rules; returns those at Glance.
    pub fn add(&self, row: &Row) -> Vec<RuleId> {
        forget(&self.cloud);
        for rule in &row.keystone {
            self.cloud.keystone.add(rule.clone());
        }
        row.glance.iter().map(|rule| self.cloud.glance.add(rule.clone())).collect()
    }

    /// Looks whether the row ended as it should, and brings to its end what it left.
    pub async fn judge(&self, row: &Row, case: &Case, told: &Told) {
        let title = row.title();
        eprintln!("--- {title}: exit {} after {:?}\n{}", told.code, case.began.elapsed(), told.stderr);
        let puts = puts(&self.cloud.glance);
        self.cloud.glance.clear();
        self.cloud.keystone.clear();
        assert_eq!(told.code, row.code, "{title}");
        let words = told.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(row.says), "{title}: not said: {}", row.says);
        assert_eq!(puts, row.puts, "{title}: data were sent so often");
        assert_eq!(case.host.records().len(), usize::from(row.remains.recorded()), "{title}: records");
        self.judge_images(row, case).await;
        if row.remains.recorded() || row.remains.whole() && row.remains != Remains::New {
            forget(&self.cloud);
            let again = case.run(&Row { arguments: &[], ..row.clone() }).await;
            assert_eq!(again.code, 0, "{title}: the next run: {again:?}");
            assert_eq!(puts_needed(row), self::puts(&self.cloud.glance), "{title}: the next run sends");
            assert_eq!(again.stderr.contains("removed the image"), row.remains == Remains::Half, "{again:?}");
            case.host.nothing_is_left();
            self.judge_images(&Row { remains: Remains::New, ..row.clone() }, case).await;
        }
    }

    async fn judge_images(&self, row: &Row, case: &Case) {
        let title = row.title();
        self.settled(&title).await;
        let after = sorted(&self.cloud).await;
        let olds: Vec<_> = case.before.iter().filter(|image| image["name"] == NAME).collect();
        let (new, rest): (Vec<_>, Vec<_>) =
            after.iter().partition(|image| !case.before.iter().any(|old| same(old, image)));
        match row.remains {
            Remains::Old | Remains::OldRecorded => assert!(new.is_empty(), "{title}: {new:#?}"),
            _ => assert_eq!(new.len(), 1, "{title}: {new:#?}"),
        }
        // Only the old image may have changed, and only if another took its place.
        for image in &rest {
            let old = case.before.iter().find(|old| same(old, image)).unwrap();
            if row.remains == Remains::New && olds.iter().any(|current| same(current, image)) {
                assert_eq!(
                    (&image["os_hidden"], &image["visabuild_state"]),
                    (&json!(true), &json!("previous")),
                    "{title}"
                );
                let dated = format!("{NAME} {}", old["created_at"].as_str().unwrap());
                assert_eq!(image["name"], dated, "{title}");
            } else {
                assert_eq!(*image, old, "{title}");
            }
        }
        assert_eq!(rest.len(), case.before.len(), "{title}: an image is gone");
        for image in new {
            let (state, hidden, name) = match row.remains {
                Remains::New | Remains::Both => ("current", false, NAME.to_owned()),
                Remains::Candidate => ("candidate", true, format!("{NAME} (candidate)")),
                _ => ("uploading", true, format!("{NAME} (candidate)")),
            };
            let is = (&image["visabuild_state"], &image["os_hidden"], &image["name"]);
            assert_eq!(is, (&json!(state), &json!(hidden), &json!(name)), "{title}: {image:#}");
            if row.remains.whole() {
                let id = image["id"].as_str().unwrap();
                assert_eq!(self.cloud.content(id).await, Content::of(&fs::read(&case.image).unwrap()), "{title}");
            }
        }
    }

    /// Waits until Glance has thrown away what it no longer needs: the store has what its images have.
    pub async fn settled(&self, title: &str) {
        let settled = |images: &[Value]| {
            let quiet = images.iter().all(|image| image["status"] == "active" || image["status"] == "queued");
            let sizes: u64 = images.iter().map(|image| image["size"].as_u64().unwrap_or(0)).sum();
            quiet && self.cloud.bytes_stored() == sizes && self.cloud.staging_is_empty()
        };
        let shown = self.cloud_shows(settled).await;
        assert!(shown.is_ok(), "{title}: {} bytes stored for {shown:#?}", self.cloud.bytes_stored());
    }

    /// Waits until the cloud's images are as they should be; else returns those that there are.
    pub async fn cloud_shows(&self, wanted: impl Fn(&[Value]) -> bool) -> Result<(), Vec<Value>> {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let images = self.cloud.images().await;
            if wanted(&images) {
                return Ok(());
            }
            if Instant::now() > patience {
                return Err(images);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Case {
    fn arguments<'a>(&'a self, row: &Row) -> Vec<&'a str> {
        // What was uploaded last does not choose the format.
        let format = if self.image.extension().is_some_and(|ending| ending == "raw") { "raw" } else { "qcow2" };
        let fixed = ["upload", self.image.to_str().unwrap(), "--name", NAME];
        let chosen = ["--format", format].into_iter().filter(|_| !row.arguments.contains(&"--format"));
        fixed.into_iter().chain(chosen).chain(row.arguments.iter().copied()).collect()
    }

    /// Lets the row's run end by itself.
    pub async fn run(&self, row: &Row) -> Told {
        self.host.run(&self.arguments(row)).await
    }

    /// Starts the row's run.
    pub fn start(&self, row: &Row) -> Running {
        let mut command = tokio::process::Command::from(self.host.command(&self.arguments(row)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Running(command.spawn().unwrap())
    }
}

/// A raw image of [`LARGE`] bytes, most of which are holes.
fn large(host: &Host, seed: u8) -> PathBuf {
    let image = host.path().join(format!("{NAME}.raw"));
    let mut bytes = vec![0; usize::try_from(LARGE).unwrap()];
    for byte in bytes.iter_mut().step_by(4096) {
        *byte = seed;
    }
    fs::write(&image, bytes).unwrap();
    host.describe(&image, &json!({}));
    image
}

fn forget(cloud: &Cloud) {
    cloud.glance.forget_requests();
    cloud.keystone.forget_requests();
}

/// How often data were sent.
fn puts(glance: &FaultProxy) -> usize {
    glance.requests_for("PUT", FILE).len() + glance.requests_for("PUT", "/stage").len()
}

/// How often the next run has to send data.
fn puts_needed(row: &Row) -> usize {
    usize::from(!row.remains.whole())
}

fn same(one: &Value, other: &Value) -> bool {
    one["id"] == other["id"]
}

async fn sorted(cloud: &Cloud) -> Vec<Value> {
    let mut images = cloud.images().await;
    images.sort_by_key(|image| image["id"].as_str().unwrap().to_owned());
    images
}

/// Compares the documentation's table with the rows; `INSTA_UPDATE=always` writes it.
pub fn documented(rows: &[Row]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/publishing-faults.md");
    let text = fs::read_to_string(&path).unwrap();
    let begin = text.find("| where it broke |").unwrap();
    let length: usize =
        text[begin..].split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum();
    let wanted = table(rows);
    if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        fs::write(&path, format!("{}{wanted}{}", &text[..begin], &text[begin + length..])).unwrap();
        return;
    }
    assert_eq!(text[begin..begin + length], wanted, "INSTA_UPDATE=always writes {}", path.display());
}
