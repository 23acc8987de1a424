//! The pictures that a boot command waits for.

use std::collections::BTreeMap;
use std::path::Path;

use super::command::{BootCommand, Region};
use super::screen::{Change, Screen, Tolerance};
use crate::error::{Context, Error, Kind, Problem, Result};

/// A cursor that blinks is no difference, unless it is more than this share of what is compared.
const MOST_CURSOR: f64 = 0.1;

/// The PNG files of a boot command, read before anything runs.
#[derive(Debug, Clone, Default)]
pub struct Pictures {
    by_file: BTreeMap<String, Screen>,
}

impl Pictures {
    /// Reads the files that `command` names, relative to `folder`.
    ///
    /// # Errors
    /// All that are missing or no PNG.
    pub fn load(command: &BootCommand, folder: &Path) -> Result<Self> {
        let (mut by_file, mut problems) = (BTreeMap::new(), Vec::new());
        for file in command.images() {
            let path = folder.join(file);
            let read = std::fs::read(&path).context(Kind::Usage, || "it cannot be read");
            match read.and_then(|bytes| Screen::from_png(&bytes)) {
                Ok(picture) => drop(by_file.insert(file.to_owned(), picture)),
                Err(error) => {
                    let why = error.chain().join(": ");
                    let problem = Problem::new(format!("the boot command waits for the image {file:?}: {why}"));
                    problems.push(problem.hint("images are PNG files beside the template, such as a screenshot"));
                }
            }
        }
        problems.dedup();
        if problems.is_empty() { Ok(Self { by_file }) } else { Err(Error::problems(Kind::Usage, problems)) }
    }

    pub(super) fn get(&self, file: &str) -> Result<&Screen> {
        self.by_file.get(file).ok_or_else(|| Error::build(format!("the image {file:?} was not loaded")))
    }
}

/// How a screen compares with a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Likeness {
    /// It shows it.
    Shown,
    /// This share of the pixels is other, 0 to 1.
    Other(f64),
    /// The sizes do not fit.
    Size,
}

/// Compares. A picture that is as large as the region is what is to be seen there; one that is as large as the
/// screen is a screenshot, whose same region is.
pub(super) fn compare(screen: &Screen, picture: &Screen, region: Option<Region>, tolerance: Tolerance) -> Likeness {
    let (seen, picture) = match region {
        None => (Some(screen.clone()), Some(picture.clone())),
        Some(region) if picture.size() == (region.width, region.height) => (screen.part(region), Some(picture.clone())),
        Some(region) if picture.size() == screen.size() => (screen.part(region), picture.part(region)),
        Some(_) => (None, None),
    };
    let Some((seen, picture)) = seen.zip(picture) else { return Likeness::Size };
    match seen.difference(&picture, tolerance.colour) {
        None => Likeness::Size,
        Some(share) if share <= tolerance.pixels => Likeness::Shown,
        Some(share) if share <= MOST_CURSOR && seen.change_since(&picture) == Change::Cursor => Likeness::Shown,
        Some(share) => Likeness::Other(share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORNER: Region = Region { x: 0, y: 0, width: 2, height: 2 };

    fn screen(colour: u8) -> Screen {
        let mut screen = Screen::new(4, 4);
        screen.draw(CORNER, &[colour; 16]).unwrap();
        screen
    }

    #[test]
    fn a_region_is_compared_with_its_picture_or_a_screenshot() {
        let (seen, tolerance) = (screen(200), Tolerance::default());
        assert_eq!(compare(&seen, &screen(190), None, tolerance), Likeness::Shown);
        assert_eq!(compare(&seen, &screen(9), None, tolerance), Likeness::Other(0.25));
        assert_eq!(compare(&seen, &screen(200), Some(CORNER), tolerance), Likeness::Shown);
        assert_eq!(compare(&seen, &screen(9), Some(CORNER), tolerance), Likeness::Other(1.0));
        assert_eq!(compare(&seen, &screen(200).part(CORNER).unwrap(), Some(CORNER), tolerance), Likeness::Shown);
        assert_eq!(compare(&seen, &Screen::new(3, 3), Some(CORNER), tolerance), Likeness::Size);
        assert_eq!(compare(&seen, &Screen::new(3, 3), None, tolerance), Likeness::Size);
        let mut cursor = Screen::new(40, 40);
        cursor.draw(Region { x: 9, y: 14, width: 9, height: 2 }, &[255; 72]).unwrap();
        assert_eq!(compare(&cursor, &Screen::new(40, 40), None, tolerance), Likeness::Shown);
        let outside = Region { x: 3, ..CORNER };
        assert_eq!(compare(&seen, &screen(200), Some(outside), tolerance), Likeness::Size);
    }

    #[test]
    fn all_missing_pictures_are_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.png"), "x").unwrap();
        std::fs::write(folder.path().join("c.png"), screen(1).png().unwrap()).unwrap();
        let wait = |file| format!("<waitForScreen image {file}.png>");
        let command = BootCommand::parse(&["a", "b", "c"].map(wait)).unwrap();
        let error = Pictures::load(&command, folder.path()).unwrap_err();
        let problems: Vec<_> = error.problem_list().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("the boot command waits for the image \"a.png\": it cannot be read: No such"));
        assert!(problems[1].contains("\"b.png\": the picture is not a PNG to compare with"));
        let command = BootCommand::parse(&[wait("c")]).unwrap();
        assert!(Pictures::load(&command, folder.path()).unwrap().get("c.png").is_ok());
    }
}
