//! The configuration in force, and a reload that was refused.

use maud::{Markup, html};

use crate::status::words::{ago, counted};
use crate::status::{Configuration, Reload, Status};

/// The section about the configuration.
pub(super) fn section(status: &Status) -> Markup {
    let Configuration {
        file,
        generation,
        hash,
        loaded,
        refused_reload,
    } = &status.configuration;
    html! {
        section id="configuration" aria-labelledby="configuration-title" {
            h2 id="configuration-title" { "Configuration" }
            @if let Some(reload) = refused_reload { (refused(reload, &status.time)) }
            dl {
                dt { "File" } dd { @match file { Some(file) => code { (file) }, None => "none" } }
                dt { "Loaded" } dd { (loaded) ", " (ago(loaded, &status.time)) }
                dt { "Generation" } dd { (generation) }
                dt { "CRC-32 of the text" } dd { code { (hash) } }
                dt { "Process" } dd { (status.pid) ", started " (status.started) }
            }
        }
    }
}

fn refused(reload: &Reload, now: &str) -> Markup {
    html! {
        p class="bad" {
            "portway refused to reload the file " (ago(&reload.time, now)) ". The configuration before it stays in force."
        }
        pre { @for line in &reload.faults { span { (line) } } }
        @if reload.faults_not_shown > 0 {
            p { code { "portway check" } " shows " (counted(reload.faults_not_shown, "more line")) "." }
        }
    }
}
