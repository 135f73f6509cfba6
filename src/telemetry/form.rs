//! Which format a log is written in at the moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use strum::{EnumString, FromRepr, VariantNames};

/// How log lines are written: `--log-format`, `log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, FromRepr, VariantNames)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// `key=value`, for people.
    Text,
    /// One JSON object per line, with the fields of the Elastic Common Schema.
    Ecs,
}

/// The format of one log. The command line decides, then the file, then who reads the log. A reload may change what the file
/// says while other threads write lines.
#[derive(Debug)]
pub struct Form {
    flag: Option<Format>,
    usual: Format,
    in_force: AtomicU8,
}

impl Form {
    /// The format of the command line; `usual` applies if neither that nor the file names one.
    pub fn new(flag: Option<Format>, usual: Format) -> Arc<Self> {
        Arc::new(Self {
            flag,
            usual,
            in_force: AtomicU8::new(flag.unwrap_or(usual) as u8),
        })
    }

    /// This format, whatever the file says.
    pub fn always(format: Format) -> Arc<Self> {
        Self::new(Some(format), format)
    }

    /// The format of lines that are written now.
    pub fn get(&self) -> Format {
        Format::from_repr(self.in_force.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Follows the file from now on; `None` if it names no format.
    pub fn adopt(&self, file: Option<Format>) {
        let format = self.flag.or(file).unwrap_or(self.usual);
        self.in_force.store(format as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, Format};

    #[test]
    fn the_flag_decides_then_the_file_then_the_reader() {
        let in_force = |flag, file| {
            let form = Form::new(flag, Format::Text);
            form.adopt(file);
            form.get()
        };
        assert_eq!(in_force(None, None), Format::Text);
        assert_eq!(in_force(None, Some(Format::Ecs)), Format::Ecs);
        assert_eq!(
            in_force(Some(Format::Json), Some(Format::Ecs)),
            Format::Json
        );
        assert_eq!(Form::new(None, Format::Ecs).get(), Format::Ecs);
        assert_eq!(Form::always(Format::Ecs).get(), Format::Ecs);
    }

    #[test]
    fn a_file_that_no_longer_names_a_format_has_none() {
        let form = Form::new(None, Format::Json);
        form.adopt(Some(Format::Text));
        assert_eq!(form.get(), Format::Text);
        form.adopt(None);
        assert_eq!(form.get(), Format::Json);
    }
}
