//! The captured hellos of `tests/corpus`.

use std::path::Path;

/// Every capture with the name of its file.
pub(crate) fn captures() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut captures = Vec::new();
    for entry in Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .read_dir()?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            captures.push((name, std::fs::read(&path)?));
        }
    }
    Ok(captures)
}
