//! Options of the commands that speak to a cloud; names are the openstack client's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::error::{Error, Result};
use crate::glance::{BootTest, Form, ImportMethod, Patience, Promotion, Publication, Visibility, Wanted};

/// Which cloud, and as whom: passwords and tokens come from the environment or clouds.yaml only.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cloud")]
pub struct CloudArgs {
    /// Project that the images belong to, by name or id [default: OS_PROJECT_NAME, or clouds.yaml's]
    #[arg(long, value_name = "NAME|ID")]
    pub project: Option<String>,
    /// That project's domain, by name or id
    #[arg(long, value_name = "NAME|ID", alias = "os-project-domain-name")]
    pub project_domain: Option<String>,
    /// Entry of clouds.yaml [default: OS_CLOUD, or the only entry where no OS_AUTH_URL is set]
    #[arg(long, value_name = "NAME")]
    pub os_cloud: Option<String>,
    /// Region of the endpoints [default: OS_REGION_NAME]
    #[arg(long, value_name = "NAME")]
    pub os_region_name: Option<String>,
    /// Interface of the endpoints: public, internal or admin [default: OS_INTERFACE, or public]
    #[arg(long, value_name = "NAME")]
    pub os_interface: Option<String>,
    /// Certificate authority of the cloud, PEM [default: OS_CACERT, and the host's own]
    #[arg(long, value_name = "FILE")]
    pub os_cacert: Option<PathBuf>,
    /// Client certificate, PEM [default: OS_CERT]
    #[arg(long, value_name = "FILE")]
    pub os_cert: Option<PathBuf>,
    /// Its key, PEM, where that is another file [default: OS_KEY]
    #[arg(long, value_name = "FILE", requires = "os_cert")]
    pub os_key: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long)]
    pub insecure: bool,
    /// Seconds after which a connection that moves nothing counts as broken
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub stall_timeout: u64,
    /// How often what broke is tried again
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(0..=20))]
    pub retries: u32,
}

impl CloudArgs {
    /// In the library's terms.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            cloud: self.os_cloud.clone(),
            project: self.project.clone(),
            project_domain: self.project_domain.clone(),
            region: self.os_region_name.clone(),
            interface: self.os_interface.clone(),
            cacert: self.os_cacert.clone(),
            cert: self.os_cert.clone(),
            key: self.os_key.clone(),
            insecure: self.insecure,
        }
    }

    /// In the library's terms.
    pub fn patience(&self) -> Patience {
        let stall = Duration::from_secs(self.stall_timeout);
        let patience = Patience::default();
        Patience { stall, answer: patience.answer.min(stall), retries: self.retries, ..patience }
    }
}

/// Who may see the image.
#[derive(Debug, Clone, Args)]
#[group(id = "visibility", multiple = false)]
pub struct VisibilityArgs {
    /// Everybody sees it; a right of administrators in most clouds
    #[arg(long)]
    public: bool,
    /// Only the project sees it
    #[arg(long)]
    private: bool,
    /// The project and those that it shares the image with see it [default]
    #[arg(long)]
    shared: bool,
    /// Everybody may use it, but only finds it by its id
    #[arg(long)]
    community: bool,
}

impl VisibilityArgs {
    fn chosen(&self) -> Option<Visibility> {
        [
            (self.public, Visibility::Public),
            (self.private, Visibility::Private),
            (self.shared, Visibility::Shared),
            (self.community, Visibility::Community),
        ]
        .into_iter()
        .find_map(|(given, visibility)| given.then_some(visibility))
    }
}

/// How an image takes its place.
#[derive(Debug, Clone, Args)]
pub struct PromotionArgs {
    /// Who may see it.
    #[command(flatten)]
    pub visibility: VisibilityArgs,
    /// Share it with this project, by name or id; may be repeated
    #[arg(long, value_name = "PROJECT")]
    pub share_with: Vec<String>,
    /// Nobody may delete it
    #[arg(long)]
    pub protected: bool,
    /// Leave it out of lists
    #[arg(long)]
    pub hidden: bool,
    /// Promote it though content of it is past its end of life
    #[arg(long)]
    pub allow_eol: bool,
}

impl PromotionArgs {
    /// In the library's terms.
    pub fn promotion(&self) -> Result<Promotion> {
        let visibility = self.visibility.chosen();
        if let Some(other) = visibility.filter(|other| *other != Visibility::Shared && !self.share_with.is_empty()) {
            return Err(Error::usage(format!("--share-with goes with --shared, not with --{other}")));
        }
        Ok(Promotion {
            visibility: visibility.or_else(|| (!self.share_with.is_empty()).then_some(Visibility::Shared)),
            hidden: self.hidden,
            protected: self.protected,
            allow_eol: self.allow_eol,
            share_with: self.share_with.clone(),
        })
    }
}

/// How an image is published.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Publishing")]
pub struct PublishArgs {
    /// Name in the cloud [default: the template's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How it takes its place.
    #[command(flatten)]
    pub promotion: PromotionArgs,
    /// Upload and look at it in the cloud, but leave what is there in its place
    #[arg(long)]
    pub candidate: bool,
    /// Delete what was published before, but for the newest N; what is in use stays
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Least disk of a flavour, GiB [default: the image's own]
    #[arg(long, value_name = "GIB")]
    pub min_disk: Option<u64>,
    /// Least memory of a flavour, MiB
    #[arg(long, value_name = "MIB")]
    pub min_ram: Option<u64>,
    /// Property of the image; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = property)]
    pub property: Vec<(String, String)>,
    /// Tag of the image; may be repeated
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// What is sent
    #[arg(long, value_enum, value_name = "FORM", default_value = "auto")]
    pub format: Form,
    /// What Glance calls the format [default: what it is]
    #[arg(long, value_name = "FORMAT")]
    pub disk_format: Option<String>,
    /// What the image is wrapped in
    #[arg(long, value_name = "FORMAT", default_value = "bare")]
    pub container_format: String,
    /// How the data get there
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    pub method: ImportMethod,
    /// Where the cloud fetches the image; for --method web-download
    #[arg(long, value_name = "URL")]
    pub uri: Option<String>,
    /// Store that takes the image [default: the cloud's own choice]
    #[arg(long, value_name = "ID")]
    pub store: Option<String>,
    /// Make a server of the image before it is promoted, and wait until it is up
    #[arg(long)]
    pub boot_test: bool,
    /// Flavour of that server, by name or id [default: the smallest that fits]
    #[arg(long, value_name = "NAME|ID", requires = "boot_test")]
    pub boot_flavor: Option<String>,
    /// Its network, by id [default: Nova's own choice]
    #[arg(long, value_name = "ID", requires = "boot_test")]
    pub boot_network: Option<String>,
    /// Seconds that it may take
    #[arg(long, value_name = "SECONDS", default_value = "900", requires = "boot_test")]
    pub boot_timeout: u64,
}

fn property(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("it is KEY=VALUE".to_owned()),
    }
}

impl PublishArgs {
    /// In the library's terms.
    pub fn publication(&self) -> Result<Publication> {
        match (self.method, &self.uri) {
            (ImportMethod::WebDownload, None) => {
                return Err(Error::usage(
                    "--method web-download needs --uri: the address where the cloud fetches the image",
                ));
            }
            (ImportMethod::WebDownload, Some(_)) | (_, None) => {}
            (_, Some(_)) => return Err(Error::usage("--uri goes with --method web-download")),
        }
        if self.method == ImportMethod::WebDownload && self.format == Form::Raw {
            return Err(Error::usage(
                "--format raw cannot be had with web-download: the cloud fetches the file as it is",
            ));
        }
        let taken = self.property.iter().find(|(name, _)| name.starts_with("visabuild_"));
        if let Some((name, _)) = taken {
            return Err(Error::usage(format!("the property `{name}` is set by visabuild itself")));
        }
        let boot_test = self.boot_test.then(|| BootTest {
            flavor: self.boot_flavor.clone(),
            network: self.boot_network.clone(),
            patience: Duration::from_secs(self.boot_timeout),
        });
        Ok(Publication {
            name: self.name.clone(),
            min_disk: self.min_disk,
            min_ram: self.min_ram,
            disk_format: self.disk_format.clone(),
            container_format: self.container_format.clone(),
            properties: self.property.iter().cloned().collect::<BTreeMap<_, _>>(),
            tags: self.tag.clone(),
            form: self.format,
            method: self.method,
            uri: self.uri.clone(),
            store: self.store.clone(),
            promotion: self.promotion.promotion()?,
            candidate: self.candidate,
            boot_test,
            keep: self.keep,
        })
    }
}

/// Options of `upload`.
#[derive(Debug, Args)]
pub struct UploadArgs {
    /// Images, or templates whose images are in the results [default: every template that no other extends]
    #[arg(value_name = "IMAGE|TEMPLATE")]
    pub subjects: Vec<PathBuf>,
    /// Project folder of the templates
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub directory: PathBuf,
    /// Folder of the results of templates [default: DIR/builds]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// JSON lines on standard output instead of text
    #[arg(long)]
    pub json: bool,
    /// How.
    #[command(flatten)]
    pub publish: PublishArgs,
    /// Where.
    #[command(flatten)]
    pub cloud: CloudArgs,
}

/// Options of `images`.
#[derive(Debug, Args)]
pub struct ImagesArgs {
    /// Names to list [default: all that visabuild has published in the project]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// JSON on standard output instead of a table
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub cloud: CloudArgs,
}

/// Options of `promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// An image's id, or a name, whose newest candidate is taken
    #[arg(value_name = "ID|NAME")]
    pub image: String,
    /// JSON on standard output instead of text
    #[arg(long)]
    pub json: bool,
    /// How.
    #[command(flatten)]
    pub promotion: PromotionArgs,
    /// Where.
    #[command(flatten)]
    pub cloud: CloudArgs,
}

/// Options of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The name that the image before is to have again
    #[arg(value_name = "NAME")]
    pub name: String,
    /// JSON on standard output instead of text
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub cloud: CloudArgs,
}

/// Options of `prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Names whose old images are deleted [default: all that visabuild has published in the project]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// How many of those before the current one stay
    #[arg(long, value_name = "N", default_value = "2")]
    pub keep: usize,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// JSON on standard output instead of text
    #[arg(long)]
    pub json: bool,
    /// Where.
    #[command(flatten)]
    pub cloud: CloudArgs,
}

/// What to do with images in the cloud.
#[derive(Debug, Subcommand)]
pub enum CloudCommand {
    /// Publish finished images to an OpenStack cloud
    #[command(after_help = UPLOAD_HELP)]
    Upload(Box<UploadArgs>),
    /// List what was published: which image counts, what was before it, who shares it
    Images(ImagesArgs),
    /// Let an image stand for its name, in the place of the one before
    Promote(PromoteArgs),
    /// Let the image before the current one stand for the name again
    Rollback(RollbackArgs),
    /// Delete old images, but for the newest ones and those in use
    Prune(PruneArgs),
}

const UPLOAD_HELP: &str = "\
The image is sent private and hidden, compared with what the cloud has of it, and only then takes the
name and visibility that it is to have; the image before is renamed with its date and hidden.
The same data are never sent twice. Who logs in is what the openstack client would take: the OS_*
variables of an openrc file, or clouds.yaml.
Exit codes: 0 done; 2 the call or a file is wrong; 3 the host cannot do it; 5 the server of
--boot-test did not come up; 6 the cloud refused or was not reachable.";
