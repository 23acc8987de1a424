//! Accounts: what a user sets to reach the cloud, tokens, limits, and OpenStack's own client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::Cloud;
use super::glance::read_json;
use super::services::program;

/// Secret of builder's application credential.
pub const APPLICATION_CREDENTIAL_SECRET: &str = "application-credential-Secr3t";

/// The region of all endpoints.
pub const REGION: &str = "RegionOne";

/// A user's password.
pub fn password(user: &str) -> String {
    format!("{user}-Passw0rd")
}

impl Cloud {
    /// The id of a project.
    pub fn project_id(&self, name: &str) -> &str {
        self.facts["projects"][name].as_str().unwrap()
    }

    /// The id of a user.
    pub fn user_id(&self, name: &str) -> &str {
        self.facts["users"][name].as_str().unwrap()
    }

    /// The id of builder's application credential, which is for the project `visa`.
    pub fn application_credential_id(&self) -> &str {
        self.facts["application_credential"].as_str().unwrap()
    }

    /// Where clients find Keystone.
    pub fn auth_url(&self) -> String {
        format!("{}/v3", self.keystone.url())
    }

    /// What a user's openrc file sets for a project.
    pub fn environment(&self, user: &str, project: &str) -> Vec<(String, String)> {
        self.variables(&[
            ("OS_PROJECT_NAME", project),
            ("OS_PROJECT_DOMAIN_ID", "default"),
            ("OS_USER_DOMAIN_NAME", "Default"),
            ("OS_USERNAME", user),
            ("OS_PASSWORD", &password(user)),
        ])
    }

    /// What the openrc file of builder's application credential sets.
    pub fn application_credential_environment(&self) -> Vec<(String, String)> {
        self.variables(&[
            ("OS_AUTH_TYPE", "v3applicationcredential"),
            ("OS_APPLICATION_CREDENTIAL_ID", self.application_credential_id()),
            ("OS_APPLICATION_CREDENTIAL_SECRET", APPLICATION_CREDENTIAL_SECRET),
        ])
    }

    fn variables(&self, own: &[(&str, &str)]) -> Vec<(String, String)> {
        let common = [
            ("OS_AUTH_URL", self.auth_url()),
            ("OS_REGION_NAME", REGION.to_owned()),
            ("OS_INTERFACE", "public".to_owned()),
            ("OS_IDENTITY_API_VERSION", "3".to_owned()),
        ];
        let mut variables: Vec<_> = common.map(|(name, value)| (name.to_owned(), value)).to_vec();
        variables.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        for (key, file) in self.tls_files() {
            variables.push((format!("OS_{}", key.to_uppercase()), file.display().to_string()));
        }
        variables
    }

    /// The files that a client needs for TLS, by the names that clouds.yaml has for them.
    pub fn tls_files(&self) -> Vec<(&'static str, PathBuf)> {
        let Some(authority) = &self.authority else { return Vec::new() };
        let mut files = vec![("cacert", authority.certificate_file())];
        if self.tls == super::Tls::Mutual {
            let (certificate, key) = authority.client_files();
            files.extend([("cert", certificate), ("key", key)]);
        }
        files
    }

    /// Writes clouds.yaml and, with all that is secret, secure.yaml. Its clouds are all of builder in visa:
    /// `password`, `appcred`, and `token` with a token of this moment.
    pub async fn clouds_yaml(&self, folder: &Path) {
        let in_visa = json!({"project_name": "visa", "project_domain_id": "default"});
        let mut user = in_visa.clone();
        user.as_object_mut()
            .unwrap()
            .extend([("username".to_owned(), json!("builder")), ("user_domain_name".to_owned(), json!("Default"))]);
        let credential = json!({"application_credential_id": self.application_credential_id()});
        let clouds = json!({"clouds": {
            "password": self.cloud_entry(None, user),
            "appcred": self.cloud_entry(Some("v3applicationcredential"), credential),
            "token": self.cloud_entry(Some("v3token"), in_visa),
        }});
        let secrets = json!({"clouds": {
            "password": {"auth": {"password": password("builder")}},
            "appcred": {"auth": {"application_credential_secret": APPLICATION_CREDENTIAL_SECRET}},
            "token": {"auth": {"token": self.token("builder", "visa").await}},
        }});
        for (name, content) in [("clouds.yaml", clouds), ("secure.yaml", secrets)] {
            fs::write(folder.join(name), serde_yaml::to_string(&content).unwrap()).unwrap();
        }
    }

    fn cloud_entry(&self, kind: Option<&str>, mut auth: Value) -> Value {
        auth["auth_url"] = json!(self.auth_url());
        let mut entry = json!({"auth": auth, "region_name": REGION, "interface": "public", "identity_api_version": 3});
        if let Some(kind) = kind {
            entry["auth_type"] = json!(kind);
        }
        for (key, file) in self.tls_files() {
            entry[key] = json!(file);
        }
        entry
    }

    /// A token by Keystone itself.
    pub async fn token(&self, user: &str, project: &str) -> String {
        let default = json!({"id": "default"});
        let who = json!({"name": user, "password": password(user), "domain": default});
        let auth = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": who}},
            "scope": {"project": {"name": project, "domain": default}},
        }});
        let url = format!("http://{}/v3/auth/tokens", self.keystone_address());
        let request = self.http().post(url).header("content-type", "application/json").body(auth.to_string());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 201, "{user} cannot sign in to {project}");
        answer.headers()["x-subject-token"].to_str().unwrap().to_owned()
    }

    /// A token of the administrator, which is good now.
    pub(super) async fn admin_token(&self) -> String {
        let mut kept = self.admin_token.lock().await;
        match kept.as_ref() {
            Some((made, token)) if made.elapsed() < self.token_lifetime / 2 => token.clone(),
            _ => kept.insert((Instant::now(), self.token("admin", "admin").await)).1.clone(),
        }
    }

    /// Makes a token invalid before its time.
    pub async fn revoke(&self, token: &str) {
        let request = self.keystone_request(Method::DELETE, "/auth/tokens").await;
        assert_eq!(request.header("x-subject-token", token).send().await.unwrap().status(), 204);
    }

    /// Limits a project that was not limited before: `image_size_total` (MiB), `image_stage_total` (MiB),
    /// `image_count_total`, `image_count_uploading`. Only a cloud with [`super::Options::limits`] asks for them.
    pub async fn set_limit(&self, project: &str, name: &str, limit: u64) {
        let limit = json!({"limits": [{
            "service_id": self.facts["image_service"], "region_id": REGION, "project_id": self.project_id(project),
            "resource_name": name, "resource_limit": limit,
        }]});
        let request = self.keystone_request(Method::POST, "/limits").await;
        let request = request.header("content-type", "application/json").body(limit.to_string());
        read_json(request.send().await.unwrap()).await;
    }

    /// A request to Keystone itself with the rights of its administrator.
    pub async fn keystone_request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let token = self.admin_token().await;
        let url = format!("http://{}/v3{path}", self.keystone_address());
        self.http().request(method, url).header("x-auth-token", token)
    }

    /// OpenStack's own client with a user's environment, in [`Cloud::folder`].
    pub async fn openstack(&self, user: &str, project: &str, arguments: &[&str]) -> Output {
        self.openstack_with(&self.environment(user, project), arguments).await
    }

    /// OpenStack's own client with this environment, in [`Cloud::folder`], where clouds.yaml may be.
    pub async fn openstack_with(&self, environment: &[(String, String)], arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(program("openstack"));
        command.args(arguments).current_dir(self.folder()).kill_on_drop(true).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.folder());
        command.env("PYTHONWARNINGS", "ignore").envs(environment.iter().cloned());
        command.output().await.unwrap()
    }
}
