//! The text of `portway doctor`: what was seen at each address, and then what is wrong.

use std::fmt::{self, Display};

use crate::doctor::{Address, Endpoint, Finding, Gauge, Hello, Name, Report, Severity};
use crate::status::words::counted;
use crate::telemetry::{Millis, list};
use crate::tls::certificate::Certificate;

/// The most names of a certificate on one line.
const NAMES: usize = 6;

pub(super) struct Diagnosis<'r>(pub(super) &'r Report);

impl Display for Diagnosis<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for endpoint in &self.0.endpoints {
            write_endpoint(endpoint, f)?;
        }
        writeln!(f, "this machine")?;
        for gauge in &self.0.machine {
            write_gauge(gauge, f)?;
        }
        writeln!(f)?;
        for finding in &self.0.findings {
            write_finding(finding, f)?;
        }
        let [errors, warnings] = [Severity::Error, Severity::Warning].map(|it| self.0.count(it));
        let [errors, warnings] = [counted(errors, "error"), counted(warnings, "warning")];
        if self.0.findings.is_empty() {
            writeln!(f, "nothing is wrong")
        } else {
            writeln!(f, "{errors}, {warnings}")
        }
    }
}

fn write_endpoint(endpoint: &Endpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let lookup = endpoint
        .lookup_ms
        .map(|took| format!(", looked up in {}", ms(took)));
    let lookup = lookup.unwrap_or_default();
    let via = endpoint.via.as_ref().map(|via| format!(" through {via}"));
    let via = via.unwrap_or_default();
    let role = endpoint.role.as_ref().map(|role| format!(" ({role})"));
    let role = role.unwrap_or_default();
    let (backend, name) = (&endpoint.backend, &endpoint.endpoint);
    writeln!(f, "{backend} {name}{role}{via}{lookup}")?;
    let words = match endpoint.via {
        None => ["connected in", "not connected"],
        Some(_) => ["a tunnel opened in", "no tunnel"],
    };
    for address in &endpoint.addresses {
        write_address(address, words, f)?;
    }
    if endpoint.addresses.is_empty() {
        writeln!(f, "  no address that was dialled")?;
    }
    writeln!(f)
}

fn write_address(
    address: &Address,
    [connected, not_connected]: [&str; 2],
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match address.connect_ms {
        Some(took) => writeln!(f, "  {}, {connected} {}", address.address, ms(took))?,
        None => writeln!(f, "  {}, {not_connected}", address.address)?,
    }
    if address.connect_ms.is_none() {
        return Ok(());
    }
    for name in &address.names {
        write_name(name, f)?;
    }
    // With one hello alone, its name has said it.
    if address.hellos.len() > 1 {
        let name = address
            .names
            .first()
            .and_then(|name| name.server_name.as_deref());
        let name = name.map(|name| format!(" for {name}"));
        writeln!(f, "    forms of the hello{}", name.unwrap_or_default())?;
        for (label, text) in hellos(&address.hellos) {
            line(f, label, &text)?;
        }
    }
    Ok(())
}

fn write_name(name: &Name, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let server_name = name.server_name.as_deref().unwrap_or("no server name");
    let made_up = if name.made_up && name.server_name.is_some() {
        " (made up)"
    } else {
        ""
    };
    writeln!(f, "    {server_name}{made_up}")?;
    let answer = &name.answer;
    let took = answer
        .first_byte_ms
        .map(|took| format!(", first byte after {}", ms(took)));
    line(
        f,
        "answer",
        &format!(
            "the server {}{}",
            answer.answer_text,
            took.unwrap_or_default()
        ),
    )?;
    for (position, certificate) in name.certificates.iter().enumerate() {
        let label = if position == 0 { "certificate" } else { "" };
        line(f, label, &certificate_text(certificate, position))?;
    }
    if let Some(why) = &name.certificate_unseen {
        line(f, "certificate", &format!("not seen: {why}"))?;
    }
    if let Some(asks) = name.asks_for_certificate {
        let text = if asks {
            "a certificate is asked for (mutual TLS)"
        } else {
            "no certificate is asked for"
        };
        line(f, "client", text)?;
    }
    if let Some(alpn) = &name.alpn {
        line(f, "ALPN", alpn)?;
    }
    Ok(())
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "      {label:<12} {text}")
}

fn certificate_text(certificate: &Certificate, position: usize) -> String {
    let Certificate {
        subject,
        issuer,
        names,
        ..
    } = certificate;
    let valid = format!(
        "valid {} to {}",
        certificate.first_day(),
        certificate.last_day()
    );
    let issuer = if certificate.self_signed {
        "self-signed".to_owned()
    } else {
        format!("issued by {issuer}")
    };
    if position == 0 && !names.is_empty() {
        format!("for {}; {issuer}; {valid}", list(names, NAMES))
    } else {
        format!("{subject}; {issuer}; {valid}")
    }
}

/// The forms of a hello by their answers: those of one size with the same answer share a line.
fn hellos(hellos: &[Hello]) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&Hello, Vec<&str>)> = Vec::new();
    for hello in hellos {
        let arrival = match hello.arrival {
            "two_segments" => "in two segments",
            "two_records" => "in two records",
            _ => "whole",
        };
        let is_alike = |first: &Hello| {
            first.hello == hello.hello && first.answer.answer_text == hello.answer.answer_text
        };
        match lines.iter_mut().find(|(first, _)| is_alike(first)) {
            Some((_, arrivals)) => arrivals.push(arrival),
            None => lines.push((hello, vec![arrival])),
        }
    }
    let text = |(first, arrivals): (&Hello, Vec<&str>)| {
        let label = if first.hello == "classic" {
            "classic"
        } else {
            "post-quantum"
        };
        let (bytes, answer) = (first.bytes, &first.answer.answer_text);
        (
            label,
            format!(
                "{bytes} bytes, {}: the server {answer}",
                arrivals.join(", ")
            ),
        )
    };
    lines.into_iter().map(text).collect()
}

fn write_gauge(gauge: &Gauge, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Gauge {
        name, limit, text, ..
    } = gauge;
    let used = gauge
        .used
        .map(|used| format!("{used} of "))
        .unwrap_or_default();
    let address = gauge.address.map(|address| format!(" {address}"));
    let address = address.unwrap_or_default();
    writeln!(f, "  {name:<16} {used}{limit} {text}{address}")
}

fn write_finding(finding: &Finding, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = &finding.place;
    let backend = place.backend.as_ref().map(|name| format!("backend {name}"));
    let address = place.address.map(|address| address.to_string());
    let address = address.filter(|address| Some(address) != place.endpoint.as_ref());
    let parts = [
        place.key.as_ref(),
        backend.as_ref(),
        place.endpoint.as_ref(),
        address.as_ref(),
        place.server_name.as_ref(),
    ];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    let place = if parts.is_empty() {
        "this machine".to_owned()
    } else {
        parts.join(", ")
    };
    writeln!(f, "{severity}: {place}")?;
    writeln!(f, "  {}", finding.message)?;
    writeln!(f, "  help: {}\n", finding.help)
}

fn ms(Millis(took): Millis) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}
