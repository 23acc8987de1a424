//! The `convert` post-processor: the image in another format, compared with the image before it is taken for good.

use super::new_file::Place;
use super::{Given, Outcome};
use crate::error::Result;
use crate::image::qemu_img;
use crate::template::post_processor::{Convert, DiskFormat};

/// Makes the file of the image itself, wherever in its chain the post-processor is: formats of disks have one content.
pub(super) async fn run(given: &Given<'_>, convert: &Convert) -> Result<Outcome> {
    let place = Place::new(given.image, &convert.output)?;
    let format = convert.format.of_qemu();
    let (image, cancel) = (&given.image.path, given.run.cancel);
    qemu_img::convert_to(image, &place.beside, (format, &options(convert)), given.phase, cancel).await?;
    qemu_img::compare(image, &place.beside, format, cancel).await?;
    let path = place.publish()?;
    Ok(Outcome { outputs: vec![path.clone()], artifact: Some(vec![path]), holds: None })
}

/// The format's options, as one argument of qemu-img.
fn options(convert: &Convert) -> String {
    // A VHD would else be of another size, rounded to cylinders (qemu's block/vpc.c).
    let size = ("force_size".to_owned(), "on".to_owned());
    let needs_size = convert.format == DiskFormat::Vhd && convert.options.iter().all(|(name, _)| *name != size.0);
    let all = convert.options.iter().chain(needs_size.then_some(&size));
    // A comma in a value is written twice.
    all.map(|(name, value)| format!("{name}={}", value.replace(',', ",,"))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_one_argument() {
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut convert = Convert {
            format: DiskFormat::Vmdk,
            options: vec![option("subformat", "streamOptimized"), option("x", "a,b")],
            output: "x".to_owned(),
        };
        assert_eq!(options(&convert), "subformat=streamOptimized,x=a,,b");
        convert = Convert { format: DiskFormat::Vhd, options: vec![option("subformat", "fixed")], ..convert };
        assert_eq!(options(&convert), "subformat=fixed,force_size=on");
        convert.options = vec![option("force_size", "off")];
        assert_eq!(options(&convert), "force_size=off");
    }
}
