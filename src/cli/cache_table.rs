//! How `visabuild cache` shows things.

use std::fmt::Write as _;

use crate::cache::{Inventory, Item, ItemKind, State};
use crate::report::size;

/// Characters of a fingerprint that are shown; `plan` shows as many.
const SHORT: usize = 12;

const HEAD: [&str; 7] = ["KIND", "TEMPLATE", "FINGERPRINT", "SIZE", "AGE", "USED", "STATE"];

/// Everything in the cache as a table, with totals. `now` is in seconds since 1970.
pub(super) fn table(inventory: &Inventory, now: u64) -> String {
    let packages: Vec<&Item> = inventory.items.iter().filter(|item| item.kind == ItemKind::Package).collect();
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(inventory.items.iter().filter(|item| item.kind != ItemKind::Package).map(|item| row(item, now)));
    if !packages.is_empty() {
        rows.push(summed(&packages, now));
    }
    rows.extend(inventory.others.iter().map(|other| {
        let files = if other.files == 1 { "1 file".to_owned() } else { format!("{} files", other.files) };
        ["other", &other.name, "-", &size(other.bytes), "-", "-", &files].map(str::to_owned)
    }));
    let mut text = String::new();
    if rows.len() > 1 {
        text += &columns(&rows);
        text.push('\n');
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}: {}; free: {}", inventory.root.display(), size(inventory.bytes), size(inventory.free));
    let garbage: Vec<&Item> = inventory.items.iter().filter(|item| item.state.is_garbage()).collect();
    if !garbage.is_empty() {
        let bytes = garbage.iter().map(|item| item.bytes).sum();
        let _ = writeln!(text, "of no use any more: {}; `visabuild cache gc` removes it", size(bytes));
    }
    text
}

fn row(item: &Item, now: u64) -> [String; 7] {
    [
        item.kind.word().to_owned(),
        name(item),
        short(item),
        size(item.bytes),
        age(now, item.created),
        age(now, item.used),
        state(item),
    ]
}

/// The package cache in one line: its files are many.
fn summed(packages: &[&Item], now: u64) -> [String; 7] {
    let bytes = packages.iter().map(|item| item.bytes).sum();
    let oldest = packages.iter().map(|item| item.created).min().unwrap_or(now);
    let newest = packages.iter().map(|item| item.used).max().unwrap_or(now);
    let count = if packages.len() == 1 { "1 file".to_owned() } else { format!("{} files", packages.len()) };
    ["packages", "-", "-", &size(bytes), &age(now, oldest), &age(now, newest), &count].map(str::to_owned)
}

/// What an item is called: its template, or its folder.
fn name(item: &Item) -> String {
    match item.kind {
        ItemKind::Work => item.id.trim_start_matches("work/").to_owned(),
        _ => item.template.clone().unwrap_or_else(|| "-".to_owned()),
    }
}

/// The fingerprint, short.
fn short(item: &Item) -> String {
    item.fingerprint.as_ref().map_or_else(|| "-".to_owned(), |key| key.chars().take(SHORT).collect())
}

/// One item in a few words, for lines about it.
pub(super) fn title(item: &Item) -> String {
    let words = [item.kind.word().to_owned(), name(item), short(item)];
    words.into_iter().filter(|word| word != "-").collect::<Vec<_>>().join(" ")
}

fn state(item: &Item) -> String {
    let mut text = item.state.word().to_owned();
    if let Some(why) = &item.why {
        let _ = write!(text, " ({why})");
    }
    if !item.needed_by.is_empty() {
        let _ = write!(text, ", {} on it", item.needed_by.len());
    }
    if !item.results.is_empty() && item.state != State::Stale {
        let results: Vec<&str> = item.results.iter().map(String::as_str).collect();
        let _ = write!(text, ", in {}", results.join(", "));
    }
    text
}

/// Lines with cells of equal width.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

/// How long ago, in the largest unit that makes sense.
fn age(now: u64, then: u64) -> String {
    let seconds = now.saturating_sub(then);
    let units = [(86400, "d"), (3600, "h"), (60, "min")];
    let fitting = units.into_iter().find(|(length, _)| seconds >= *length);
    fitting.map_or_else(|| format!("{seconds} s"), |(length, unit)| format!("{} {unit}", seconds / length))
}
