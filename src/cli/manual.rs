//! `visabuild completions` and `visabuild man`: made from the options themselves, so they tell the truth.

use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use super::print;
use crate::error::{Context, Error, Kind, Result};

/// Prints what the shell needs to complete words.
pub(super) fn completions(shell: Shell, mut command: Command) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "visabuild", &mut script);
    print(&String::from_utf8_lossy(&script));
}

/// Prints the manual page of visabuild or of one of its commands, or writes them all into `folder`.
pub(super) fn man(name: Option<&str>, folder: Option<&Path>, command: &Command) -> Result<()> {
    if let Some(folder) = folder {
        fs::create_dir_all(folder).context(Kind::Host, || format!("cannot make {}", folder.display()))?;
        for (file, page) in pages(command)? {
            let path = folder.join(file);
            fs::write(&path, page).context(Kind::Host, || format!("cannot write {}", path.display()))?;
        }
        return Ok(());
    }
    let wanted = name.map_or_else(|| "visabuild.1".to_owned(), |name| format!("visabuild-{name}.1"));
    let page = pages(command)?.into_iter().find(|(file, _)| *file == wanted);
    let (_, page) = page.ok_or_else(|| {
        Error::usage(format!("there is no command `{}`", name.unwrap_or_default()))
            .hint("`visabuild --help` lists them")
    })?;
    print(&String::from_utf8_lossy(&page));
    Ok(())
}

/// File name and page (man(7)) of visabuild, of each of its commands and of theirs.
fn pages(command: &Command) -> Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    add_pages(command.clone(), "visabuild", &mut pages)?;
    Ok(pages)
}

fn add_pages(command: Command, title: &str, pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    let below: Vec<Command> = command.get_subcommands().filter(|one| one.get_name() != "help").cloned().collect();
    let mut page = Vec::new();
    let written = clap_mangen::Man::new(command).render(&mut page);
    written.context(Kind::Host, || "cannot make a manual page")?;
    pages.push((format!("{title}.1"), page));
    for one in below {
        let title = format!("{title}-{}", one.get_name());
        let one = one.name(title.clone()).display_name(title.clone()).version(env!("CARGO_PKG_VERSION"));
        add_pages(one, &title, pages)?;
    }
    Ok(())
}
