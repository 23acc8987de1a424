//! Who logs in where: clouds.yaml or the `OS_*` variables, in one form.
//!
//! The names are those of the openstack client (python-openstackclient, "Authentication" and
//! "Configuration"; openstacksdk, "Configuring OpenStack SDK Applications"). Files are read by
//! openstack_sdk; the variables are read here, because it knows neither `OS_TENANT_NAME` nor
//! `OS_INSECURE`, and takes empty ones for values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use openstack_sdk_core::config::{Auth, CloudConfig, ConfigFile};
use secrecy::SecretString;

use crate::error::{Context, Error, Kind, Result};

/// What the command line says about the cloud.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The entry of clouds.yaml; `OS_CLOUD` if not set.
    pub cloud: Option<String>,
    /// The project that the token is for, by name or id.
    pub project: Option<String>,
    /// That project's domain, by name or id.
    pub project_domain: Option<String>,
    /// Region of the endpoints.
    pub region: Option<String>,
    /// Interface of the endpoints: `public`, `internal` or `admin`.
    pub interface: Option<String>,
    /// Certificate authority (PEM) of the cloud.
    pub cacert: Option<PathBuf>,
    /// Client certificate (PEM).
    pub cert: Option<PathBuf>,
    /// Its key (PEM), where that is another file.
    pub key: Option<PathBuf>,
    /// Believe any certificate.
    pub insecure: bool,
}

/// A way to prove who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// User and password.
    Password,
    /// A token that somebody else made.
    Token,
    /// An application credential, which belongs to one project.
    ApplicationCredential,
}

/// All that a session needs to begin.
#[derive(Debug, Clone)]
pub struct Login {
    /// Where it was found, for messages: `cloud mycloud of …/clouds.yaml`, `OS_* variables`.
    pub source: String,
    /// How to prove it.
    pub method: Method,
    /// User, password, project and their like; no field is empty.
    pub auth: Auth,
    /// Keystone's address.
    pub auth_url: String,
    /// Region of the endpoints.
    pub region: Option<String>,
    /// Interface of the endpoints.
    pub interface: String,
    /// Glance's address, where the catalogue is not to be asked.
    pub image_endpoint: Option<String>,
    /// Certificate authority (PEM) of the cloud.
    pub cacert: Option<PathBuf>,
    /// Client certificate (PEM) and, where it is another file, its key.
    pub certificate: Option<(PathBuf, Option<PathBuf>)>,
    /// Believe any certificate.
    pub insecure: bool,
    /// The project is what the user named, by name or id, on the command line.
    pub project_is_named: bool,
}

/// Where the files may be: the folders that the openstack client looks in, and the user's home.
#[derive(Debug, Clone)]
pub struct Places {
    /// Folders, first come first served.
    pub folders: Vec<PathBuf>,
    /// What `~` stands for.
    pub home: Option<PathBuf>,
}

impl Places {
    /// The current folder, the user's configuration, and the host's (XDG Base Directory Specification).
    pub fn of(current: &Path, environment: &BTreeMap<String, String>) -> Self {
        let home = environment.get("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let configuration = environment
            .get("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| home.as_ref().map(|home| home.join(".config")));
        let folders = [Some(current.to_owned()), configuration.map(|path| path.join("openstack"))];
        let folders = folders.into_iter().flatten().chain([PathBuf::from("/etc/openstack")]).collect();
        Self { folders, home }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        let names = ["yaml", "yml", "json"].map(|ending| format!("{name}.{ending}"));
        let all = self.folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name)));
        all.into_iter().find(|path| path.is_file())
    }

    fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => path.into(),
        }
    }
}

impl Login {
    /// Finds it: the entry of clouds.yaml that is named, else the variables, else the only entry of
    /// clouds.yaml.
    ///
    /// # Errors
    /// A file cannot be read, nothing is there, or something is missing (kind usage).
    pub fn find(wanted: &Wanted, environment: &BTreeMap<String, String>, places: &Places) -> Result<Self> {
        let variables = Variables(environment);
        let named = wanted.cloud.clone().or_else(|| variables.get(&["OS_CLOUD"]));
        let (config, source) = match named {
            Some(name) => from_files(&name, environment, places)?,
            None if variables.get(&["OS_AUTH_URL"]).is_some() => (variables.config(), "the OS_* variables".to_owned()),
            None => only_cloud(environment, places)?,
        };
        let login = Self::new(config, source, places)?;
        login.with(wanted)
    }

    fn new(mut config: CloudConfig, source: String, places: &Places) -> Result<Self> {
        let mut auth = config.auth.take().unwrap_or_default();
        clear_empty(&mut auth);
        let text = |value: Option<String>| value.filter(|value| !value.trim().is_empty());
        let option = |name: &str| text(config.options.get(name).and_then(|value| value.clone().into_string().ok()));
        let auth_url = auth.auth_url.clone().ok_or_else(|| {
            Error::usage(format!("{source} do not say where Keystone is")).hint("set `auth_url` (OS_AUTH_URL)")
        })?;
        let insecure = option("insecure").is_some_and(|value| is_true(&value)) || config.verify == Some(false);
        let cert = option("cert").map(|path| places.expand(&path));
        let certificate = cert.map(|cert| (cert, option("key").map(|path| places.expand(&path))));
        let method = method(text(config.auth_type.clone()).as_deref(), &auth)
            .map_err(|error| error.context(format!("{source} are not enough to log in")))?;
        complete_domains(&mut auth);
        Ok(Self {
            source,
            method,
            auth_url,
            region: text(config.region_name.clone()),
            interface: text(config.interface.clone()).map_or_else(|| "public".to_owned(), |name| interface(&name)),
            image_endpoint: option("image_endpoint_override"),
            cacert: text(config.cacert.clone()).map(|path| places.expand(&path)),
            certificate,
            insecure,
            project_is_named: false,
            auth,
        })
    }

    /// What the command line says goes before.
    fn with(mut self, wanted: &Wanted) -> Result<Self> {
        if let Some(region) = &wanted.region {
            self.region = Some(region.clone());
        }
        if let Some(name) = &wanted.interface {
            self.interface = interface(name);
        }
        if let Some(path) = &wanted.cacert {
            self.cacert = Some(path.clone());
        }
        if let Some(path) = &wanted.cert {
            self.certificate = Some((path.clone(), wanted.key.clone()));
        }
        self.insecure |= wanted.insecure;
        if let Some(domain) = &wanted.project_domain {
            // A name is asked for as a name first; Keystone's ids are 32 hexadecimal digits or `default`.
            let is_id = is_id(domain) || domain == "default";
            self.auth.project_domain_id = is_id.then(|| domain.clone());
            self.auth.project_domain_name = (!is_id).then(|| domain.clone());
        }
        if let Some(project) = &wanted.project {
            self.project_is_named = true;
            self.auth.project_id = None;
            self.auth.project_name = Some(project.clone());
        }
        if self.method != Method::ApplicationCredential
            && self.auth.project_name.is_none()
            && self.auth.project_id.is_none()
        {
            return Err(Error::usage(format!("{} name no project, and images belong to one", self.source))
                .hint("name it with --project NAME, or set OS_PROJECT_NAME"));
        }
        Ok(self)
    }
}

/// Whether it looks like an id of Keystone: a UUID with or without hyphens.
pub(super) fn is_id(text: &str) -> bool {
    let digits = text.chars().filter(|letter| *letter != '-');
    text.len() >= 32 && digits.clone().count() == 32 && digits.clone().all(|digit| digit.is_ascii_hexdigit())
}

fn is_true(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
}

/// `publicURL`, as old openrc files say it, is `public`.
fn interface(name: &str) -> String {
    name.strip_suffix("URL").unwrap_or(name).to_owned()
}

fn from_files(name: &str, environment: &BTreeMap<String, String>, places: &Places) -> Result<(CloudConfig, String)> {
    let (config, path) = read_files(environment, places)?.ok_or_else(|| {
        let looked = places.folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
        Error::usage(format!("there is no clouds.yaml with the cloud `{name}`"))
            .hint(format!("looked in {looked}; OS_CLIENT_CONFIG_FILE names another file"))
    })?;
    let found = config.get_cloud_config(name).context(Kind::Usage, || format!("reading {}", path.display()))?;
    let source = format!("the settings of cloud `{name}` in {}", path.display());
    found.map(|cloud| (cloud, source)).ok_or_else(|| {
        let mut others = config.get_available_clouds();
        others.sort();
        Error::usage(format!("{} has no cloud `{name}`", path.display())).hint(format!("it has {}", others.join(", ")))
    })
}

/// The only cloud of clouds.yaml, which need not be named.
fn only_cloud(environment: &BTreeMap<String, String>, places: &Places) -> Result<(CloudConfig, String)> {
    let missing = || {
        Error::usage("no cloud is named: neither OS_AUTH_URL nor OS_CLOUD is set")
            .hint("source your project's openrc file, or name an entry of clouds.yaml with --os-cloud NAME")
    };
    let (config, path) = read_files(environment, places)?.ok_or_else(missing)?;
    let mut names = config.get_available_clouds();
    names.sort();
    match names.as_slice() {
        [name] => from_files(name, environment, places),
        [] => Err(missing()),
        _ => Err(missing().hint(format!("{} has {}", path.display(), names.join(", ")))),
    }
}

/// clouds.yaml with vendors' profiles below and secure.yaml above it.
fn read_files(environment: &BTreeMap<String, String>, places: &Places) -> Result<Option<(ConfigFile, PathBuf)>> {
    let variables = Variables(environment);
    let named = variables.get(&["OS_CLIENT_CONFIG_FILE", "OS_CLIENT_CONFIG_PATH"]).map(|path| places.expand(&path));
    let named = named.map(|path| if path.is_dir() { path.join("clouds.yaml") } else { path });
    let Some(main) = named.clone().or_else(|| places.file("clouds")) else { return Ok(None) };
    let secure = variables.get(&["OS_CLIENT_SECURE_FILE"]).map(|path| places.expand(&path));
    let beside = main.with_file_name("secure.yaml");
    let secure = secure.or_else(|| beside.is_file().then_some(beside)).or_else(|| places.file("secure"));
    let mut builder = ConfigFile::builder();
    for path in places.file("clouds-public").iter().chain([&main]).chain(&secure) {
        builder = builder.add_source(path).context(Kind::Usage, || format!("reading {}", path.display()))?;
    }
    let config = builder.build().context(Kind::Usage, || format!("reading {}", main.display()))?;
    Ok(Some((config, main)))
}

/// The process environment; an empty variable counts as none.
struct Variables<'a>(&'a BTreeMap<String, String>);

impl Variables<'_> {
    fn get(&self, names: &[&str]) -> Option<String> {
        names.iter().filter_map(|name| self.0.get(*name)).find(|value| !value.trim().is_empty()).cloned()
    }

    fn secret(&self, name: &str) -> Option<SecretString> {
        self.get(&[name]).map(SecretString::from)
    }

    fn config(&self) -> CloudConfig {
        let default = self.get(&["OS_DEFAULT_DOMAIN", "OS_DEFAULT_DOMAIN_ID"]);
        let auth = Auth {
            auth_url: self.get(&["OS_AUTH_URL"]),
            token: self.secret("OS_TOKEN"),
            username: self.get(&["OS_USERNAME"]),
            user_id: self.get(&["OS_USER_ID"]),
            user_domain_name: self.get(&["OS_USER_DOMAIN_NAME"]),
            user_domain_id: self.get(&["OS_USER_DOMAIN_ID"]).or(default.clone()),
            password: self.secret("OS_PASSWORD"),
            project_id: self.get(&["OS_PROJECT_ID", "OS_TENANT_ID"]),
            project_name: self.get(&["OS_PROJECT_NAME", "OS_TENANT_NAME"]),
            project_domain_id: self.get(&["OS_PROJECT_DOMAIN_ID"]).or(default),
            project_domain_name: self.get(&["OS_PROJECT_DOMAIN_NAME"]),
            application_credential_id: self.get(&["OS_APPLICATION_CREDENTIAL_ID"]),
            application_credential_name: self.get(&["OS_APPLICATION_CREDENTIAL_NAME"]),
            application_credential_secret: self.secret("OS_APPLICATION_CREDENTIAL_SECRET"),
            ..Auth::default()
        };
        let options = [("cert", "OS_CERT"), ("key", "OS_KEY"), ("insecure", "OS_INSECURE")]
            .into_iter()
            .chain([("image_endpoint_override", "OS_IMAGE_ENDPOINT_OVERRIDE")])
            .filter_map(|(key, name)| Some((key.to_owned(), self.get(&[name])?.into())));
        CloudConfig {
            auth: Some(auth),
            auth_type: self.get(&["OS_AUTH_TYPE"]),
            region_name: self.get(&["OS_REGION_NAME"]),
            interface: self.get(&["OS_INTERFACE", "OS_ENDPOINT_TYPE"]),
            cacert: self.get(&["OS_CACERT"]),
            options: options.collect(),
            ..CloudConfig::default()
        }
    }
}

fn clear_empty(auth: &mut Auth) {
    for field in [
        &mut auth.auth_url,
        &mut auth.username,
        &mut auth.user_id,
        &mut auth.user_domain_name,
        &mut auth.user_domain_id,
        &mut auth.project_id,
        &mut auth.project_name,
        &mut auth.project_domain_id,
        &mut auth.project_domain_name,
        &mut auth.application_credential_id,
        &mut auth.application_credential_name,
    ] {
        if field.as_ref().is_some_and(|value| value.trim().is_empty()) {
            *field = None;
        }
    }
}

/// How to log in, from `auth_type` or from what is there.
fn method(auth_type: Option<&str>, auth: &Auth) -> Result<Method> {
    let method = match auth_type {
        Some("password" | "v3password") => Method::Password,
        Some("token" | "v3token") => Method::Token,
        Some("v3applicationcredential" | "applicationcredential" | "application_credential") => {
            Method::ApplicationCredential
        }
        Some(other) => {
            return Err(Error::usage(format!("`{other}` is no way to log in that visabuild knows"))
                .hint("it knows password, token and v3applicationcredential; an application credential is for programs: `openstack application credential create`"));
        }
        None if auth.application_credential_secret.is_some() => Method::ApplicationCredential,
        None if auth.token.is_some() && auth.password.is_none() => Method::Token,
        None => Method::Password,
    };
    let user = auth.username.is_some() || auth.user_id.is_some();
    let credential = auth.application_credential_id.is_some() || auth.application_credential_name.is_some();
    let needed = match method {
        Method::Password => [(user, "a user (OS_USERNAME)"), (auth.password.is_some(), "a password (OS_PASSWORD)")],
        Method::Token => [(auth.token.is_some(), "a token (OS_TOKEN)"), (true, "")],
        Method::ApplicationCredential => [
            (credential, "an application credential (OS_APPLICATION_CREDENTIAL_ID)"),
            (auth.application_credential_secret.is_some(), "its secret (OS_APPLICATION_CREDENTIAL_SECRET)"),
        ],
    };
    let missing: Vec<_> = needed.iter().filter(|(there, _)| !there).map(|(_, what)| *what).collect();
    if missing.is_empty() {
        Ok(method)
    } else {
        Err(Error::usage(format!("there is not {}", missing.join(" and not "))))
    }
}

/// A name needs its domain: the user's for the project, and `default` where nobody says.
fn complete_domains(auth: &mut Auth) {
    if auth.user_domain_name.is_some() {
        auth.user_domain_id = None;
    }
    if auth.user_id.is_none() && auth.user_domain_name.is_none() && auth.user_domain_id.is_none() {
        auth.user_domain_id = Some("default".to_owned());
    }
    if auth.project_domain_name.is_none() && auth.project_domain_id.is_none() {
        auth.project_domain_name.clone_from(&auth.user_domain_name);
        let fallback = auth.user_domain_id.clone().or_else(|| Some("default".to_owned()));
        auth.project_domain_id = if auth.project_domain_name.is_some() { None } else { fallback };
    } else if auth.project_domain_id.is_some() {
        auth.project_domain_name = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn nowhere() -> Places {
        Places { folders: Vec::new(), home: Some("/home/me".into()) }
    }

    fn login(pairs: &[(&str, &str)]) -> Result<Login> {
        Login::find(&Wanted::default(), &environment(pairs), &nowhere())
    }

    const RC: [(&str, &str); 5] = [
        ("OS_AUTH_URL", "https://keystone.test:5000/v3"),
        ("OS_USERNAME", "builder"),
        ("OS_PASSWORD", "pw"),
        ("OS_PROJECT_NAME", "visa"),
        ("OS_REGION_NAME", ""),
    ];

    #[test]
    fn an_openrc_file_is_understood_with_its_empty_values() {
        let old = [("OS_AUTH_URL", "x"), ("OS_USERNAME", "u"), ("OS_PASSWORD", "p"), ("OS_TENANT_NAME", "t")];
        let found =
            login(&[&old[..], &[("OS_PROJECT_NAME", ""), ("OS_ENDPOINT_TYPE", "internalURL")]].concat()).unwrap();
        assert_eq!((found.auth.project_name.as_deref(), found.interface.as_str()), (Some("t"), "internal"));
        let found = login(&RC).unwrap();
        assert_eq!((found.region, found.insecure, found.method), (None, false, Method::Password));
        assert_eq!(found.auth.user_domain_id.as_deref(), Some("default"));
        assert_eq!(found.auth.project_domain_id.as_deref(), Some("default"));
        let domains = [("OS_USER_DOMAIN_NAME", "Facility"), ("OS_INSECURE", "True")];
        let found = login(&[&RC[..], &domains].concat()).unwrap();
        assert_eq!(found.auth.project_domain_name.as_deref(), Some("Facility"));
        assert!(found.insecure && found.auth.project_domain_id.is_none() && found.auth.user_domain_id.is_none());
    }

    #[test]
    fn the_way_to_log_in_follows_from_what_is_there() {
        let url = ("OS_AUTH_URL", "x");
        let secret = ("OS_APPLICATION_CREDENTIAL_SECRET", "s");
        let found = login(&[url, secret, ("OS_APPLICATION_CREDENTIAL_ID", "i")]).unwrap();
        assert_eq!(found.method, Method::ApplicationCredential);
        let found = login(&[url, ("OS_TOKEN", "t"), ("OS_PROJECT_ID", "p")]).unwrap();
        assert_eq!(found.method, Method::Token);
    }

    #[test]
    fn what_is_missing_is_told_at_once() {
        let chain = |pairs: &[(&str, &str)]| login(pairs).unwrap_err().chain().join(": ");
        let url = ("OS_AUTH_URL", "x");
        assert_eq!(
            chain(&[url]),
            "the OS_* variables are not enough to log in: there is not a user (OS_USERNAME) and not a password \
             (OS_PASSWORD)"
        );
        assert!(chain(&[url, ("OS_AUTH_TYPE", "v3websso")]).contains("`v3websso` is no way to log in"));
        assert!(chain(&RC[..3]).contains("name no project"));
        assert!(chain(&[]).contains("no cloud is named"));
    }

    #[test]
    fn the_command_line_goes_before() {
        let wanted = Wanted {
            project: Some("other".into()),
            project_domain: Some("Facility".into()),
            region: Some("two".into()),
            ..Wanted::default()
        };
        let found = Login::find(&wanted, &environment(&RC), &nowhere()).unwrap();
        assert_eq!(found.auth.project_name.as_deref(), Some("other"));
        assert_eq!(found.auth.project_domain_name.as_deref(), Some("Facility"));
        assert_eq!(found.region.as_deref(), Some("two"));
        assert!(found.auth.project_domain_id.is_none());
    }

    #[test]
    fn clouds_yaml_has_its_secrets_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let clouds = "clouds:\n  a:\n    auth: {auth_url: https://a, username: u, project_name: p}\n    cacert: ~/ca.pem\n    \
                      cert: ~/me.pem\n    verify: false\n  b:\n    auth: {auth_url: https://b}\n";
        std::fs::write(folder.path().join("clouds.yaml"), clouds).unwrap();
        std::fs::write(folder.path().join("secure.yaml"), "clouds: {a: {auth: {password: hush}}}\n").unwrap();
        let places = Places { folders: vec![folder.path().into()], home: Some("/home/me".into()) };
        let find = |name: Option<&str>| {
            let wanted = Wanted { cloud: name.map(str::to_owned), ..Wanted::default() };
            Login::find(&wanted, &environment(&[]), &places)
        };
        let found = find(Some("a")).unwrap();
        assert_eq!(found.auth.password.as_ref().unwrap().expose_secret(), "hush");
        assert_eq!(found.cacert.as_deref(), Some(Path::new("/home/me/ca.pem")));
        assert_eq!(found.certificate, Some(("/home/me/me.pem".into(), None)));
        assert!(found.insecure && found.interface == "public");
        let missing = find(Some("c")).unwrap_err();
        assert!(missing.chain()[0].ends_with("has no cloud `c`"));
        assert_eq!(missing.hints(), ["it has a, b"]);
        assert!(find(None).unwrap_err().hints().last().unwrap().ends_with("has a, b"));
        assert_eq!(found.auth_url, "https://a");
    }

    #[test]
    fn ids_are_told_from_names() {
        assert!(is_id("0123456789abcdef0123456789abcdef") && is_id("8c9f9d8e-5b1f-4b5e-9f0e-2f1c3a4b5c6d"));
        assert!(!is_id("visa") && !is_id("0123456789abcdef0123456789abcdeg"));
    }
}
