//! A certificate authority of one test, by openssl.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// What openssl is to put in the certificates.
const EXTENSIONS: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
O = visabuild's tests
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
";

/// Files of an authority, and of the server and the client that it vouches for, all PEM.
#[derive(Clone, Debug)]
pub struct Authority {
    folder: PathBuf,
}

impl Authority {
    /// Makes one in `folder`.
    pub fn create(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("openssl.cnf"), EXTENSIONS).unwrap();
        let authority = Self { folder: folder.to_owned() };
        authority.certificate("authority", &[]);
        authority.certificate("server", &["-CA", "authority.pem", "-CAkey", "authority.key"]);
        authority.certificate("client", &["-CA", "authority.pem", "-CAkey", "authority.key"]);
        authority
    }

    fn certificate(&self, name: &str, signer: &[&str]) {
        let new = ["req", "-x509", "-config", "openssl.cnf", "-extensions", name, "-subj", &format!("/CN={name}")];
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2", "-sha256"];
        let files = ["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")];
        let mut openssl = Command::new("openssl");
        openssl.args(new).args(key).args(files).args(signer).current_dir(&self.folder).stdin(Stdio::null());
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "openssl req: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The authority's certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// Certificate and key of the client.
    pub fn client_files(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("client.pem"), self.folder.join("client.key"))
    }

    /// A TLS server in front of a plain one; its port.
    #[allow(dead_code)]
    pub async fn relay(&self, to: std::net::SocketAddr) -> u16 {
        let acceptor = tokio_rustls::TlsAcceptor::from(self.server(false));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not trust us breaks the handshake off.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut plain = tokio::net::TcpStream::connect(to).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut plain).await });
            }
        });
        port
    }

    /// A server that, if it is `mutual`, wants the client's certificate.
    pub fn server(&self, mutual: bool) -> Arc<ServerConfig> {
        let read = |name: &str| CertificateDer::from_pem_file(self.folder.join(name)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = if mutual {
            let mut roots = RootCertStore::empty();
            roots.add(read("authority.pem")).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(self.folder.join("server.key")).unwrap();
        Arc::new(builder.with_single_cert(vec![read("server.pem")], key).unwrap())
    }
}
