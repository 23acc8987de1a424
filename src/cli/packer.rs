//! `visabuild plan --format packer`, and the values that Packer's JSON is rendered with.

use std::io::{self, Write};

use super::args::ProjectArgs;
use super::project::{SECRET_VARIABLES, given, inputs, mirrors, root_password, seen_by_templates};
use super::{Environment, print};
use crate::error::{Error, Kind, Problem, Result};
use crate::packme::{Layout, Project, Values};
use crate::preflight::reach::Proxy;

/// Prints the JSON of one template. Secrets of visabuild's own options are in it as variables of Packer's.
///
/// # Errors
/// Several templates are meant, or what is wrong in their files.
pub(super) fn print_manifest(args: &ProjectArgs, environment: &Environment) -> Result<()> {
    let project = Project::load(Layout::of(&args.directory))?;
    let wanted = if args.templates.is_empty() { vec!["*".to_owned()] } else { args.templates.clone() };
    let (selected, unknown) = project.select(&wanted)?;
    if !unknown.is_empty() {
        return Err(Error::problems(Kind::Usage, unknown));
    }
    let [name] = &selected[..] else {
        return Err(Error::usage("Packer's JSON is that of one template")
            .hint(format!("name one: {}", selected.join(", ")))
            .hint("`visabuild packme -i config.yml` writes them all to manifest.json"));
    };
    let manifest = project.manifest(name, &values(args, environment, true)?)?;
    warn(&manifest.warnings);
    print(&format!("{}\n", manifest.text()));
    Ok(())
}

/// What templates see: packme's values, beneath them what visabuild knows, and, where `options` count, over them what
/// was given by visabuild's own options.
///
/// # Errors
/// A password's file cannot be read.
pub(super) fn values(args: &ProjectArgs, environment: &Environment, options: bool) -> Result<Values> {
    let proxy = Proxy { url: given(args.http_proxy.as_ref()), no_proxy: given(args.no_proxy.as_ref()) };
    let password = root_password(args)?;
    let known = inputs(args, environment, &proxy, &mirrors(args.mirror.as_deref()), password.as_ref(), true).values;
    let by_option = |name: &str| match name {
        "proxy" => proxy.url.is_some(),
        "no_proxy" => proxy.no_proxy.is_some(),
        "headless" => args.not_headless,
        "root_password" | "root_password_hash" => password.is_some() || args.lock_root,
        "pam_public_key" => args.pam_public.is_some(),
        name => name.starts_with("mirror") && given(args.mirror.as_ref()).is_some(),
    };
    let given = known.iter().filter(|(name, _)| options && by_option(name));
    let given = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    let secrets = SECRET_VARIABLES.iter().filter_map(|name| environment.get_key_value(*name));
    let secrets = secrets.map(|(name, value)| (name.clone(), value.clone().into())).collect();
    Ok(Values { beneath: known, environment: seen_by_templates(environment), secrets, given })
}

/// Tells what is good to know on standard error.
pub(super) fn warn(warnings: &[Problem]) {
    for warning in warnings {
        let hint = warning.hint.iter().map(|hint| format!("  hint: {hint}\n")).collect::<String>();
        // Printing can only fail when nobody reads.
        let _ = io::stderr().write_all(format!("warning: {warning}\n{hint}").as_bytes());
    }
}
