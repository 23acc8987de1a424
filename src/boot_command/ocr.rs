//! Text off the screen, by tesseract.

use std::io::Write;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::screen::Screen;
use crate::error::{Context, Error, Kind, Result};
use crate::process::Run;

const PROGRAM: &str = "tesseract";
/// Letters of a text console are 9 by 16 pixels; tesseract wants capitals of 20 to 30 pixels (its manual, "Improving
/// the quality of the output").
const SCALE: usize = 3;
/// One screen takes about a second.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether the program is there and works, which `<waitForScreen text …>` needs.
///
/// # Errors
/// It is not, or `cancel` fires.
pub async fn check(cancel: &CancellationToken) -> Result<()> {
    Run::new(PROGRAM, ["--version"]).kind(Kind::Host).output(cancel).await.map(drop).map_err(missing)
}

/// What is written on a screen.
///
/// # Errors
/// The program is missing or fails, or `cancel` fires.
pub async fn read(screen: &Screen, cancel: &CancellationToken) -> Result<String> {
    let mut file = tempfile::Builder::new()
        .prefix("visabuild-screen-")
        .suffix(".png")
        .tempfile()
        .context(Kind::Host, || "writing the screen for OCR")?;
    file.write_all(&screen.for_ocr(SCALE)?).context(Kind::Host, || "writing the screen for OCR")?;
    // Page segmentation 6: one block of text. A second thread would only take time from the guest.
    let run = Run::new(PROGRAM, [file.path().as_os_str(), "stdout".as_ref(), "--psm".as_ref(), "6".as_ref()])
        .with(|command| {
            command.env("OMP_THREAD_LIMIT", "1");
        })
        .kind(Kind::Host);
    match tokio::time::timeout(LIMIT, run.output(cancel)).await {
        Ok(text) => text,
        Err(_) => Err(Error::host(format!("`{PROGRAM}` did not read the screen within {LIMIT:?}"))),
    }
}

fn missing(error: Error) -> Error {
    if error.kind() != Kind::Host {
        return error;
    }
    error
        .context("`<waitForScreen text …>` needs OCR")
        .hint("install the package tesseract-ocr, or wait for `stable` or `image` instead")
}

/// Whether `text` shows `wanted`. Only letters and digits count, small or capital, and those that OCR confuses in
/// a console's font are one: `0` and `o`; `1`, `i` and `l`; `5` and `s`.
pub fn shows(text: &str, wanted: &str) -> bool {
    normalized(text).contains(&normalized(wanted))
}

pub(super) fn normalized(text: &str) -> String {
    let fold = |character| match character {
        '0' => 'o',
        '1' | 'i' => 'l',
        '5' => 's',
        other => other,
    };
    text.chars().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).map(fold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_white_space_and_confusion_make_no_difference() {
        assert!(shows("Debian GNU/Linux 13\n\nHost  L0gin :", "host login:"));
        assert!(shows("[Ma1n menu]", "Main Menu"));
        assert!(!shows("log out", "login"));
    }

    #[tokio::test]
    async fn a_screen_without_pixels_is_an_error() {
        assert!(read(&Screen::default(), &CancellationToken::new()).await.is_err());
    }
}
