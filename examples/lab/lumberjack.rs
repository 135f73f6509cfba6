//! Lumberjack version 2, as Beats and agents speak it with Logstash: a window, compressed events, and an
//! acknowledgement of the last event.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Result;

const VERSION: u8 = b'2';
/// The largest compressed frame that the stand-in takes.
const LARGEST: u32 = 1 << 20;

/// Sends a window of events in one compressed frame, and waits until all of them are acknowledged. Returns
/// the bytes of the frames.
pub(crate) async fn send<S>(stream: &mut S, events: u32) -> Result<usize>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut compressed = ZlibEncoder::new(Vec::new(), Compression::fast());
    for sequence in 1..=events {
        let event = json!({
            "@timestamp": "2026-01-01T00:00:00.000Z",
            "@metadata": { "beat": "filebeat", "type": "_doc", "version": "9.5.1" },
            "message": format!("lab systemd[1]: Started session {sequence} of user root."),
        });
        let event = event.to_string();
        compressed.write_all(&[VERSION, b'J'])?;
        compressed.write_all(&sequence.to_be_bytes())?;
        compressed.write_all(&u32::try_from(event.len())?.to_be_bytes())?;
        compressed.write_all(event.as_bytes())?;
    }
    let compressed = compressed.finish()?;
    let mut frames = vec![VERSION, b'W'];
    frames.extend(events.to_be_bytes());
    frames.extend([VERSION, b'C']);
    frames.extend(u32::try_from(compressed.len())?.to_be_bytes());
    frames.extend(compressed);
    stream.write_all(&frames).await?;
    stream.flush().await?;

    let mut acknowledged = 0;
    while acknowledged < events {
        if header(stream).await? != b'A' {
            return Err("Logstash sent another frame than an acknowledgement".into());
        }
        let sequence = stream.read_u32().await?;
        // Logstash sends 0 to say that it is alive, and may acknowledge a part of the window.
        if sequence > events || (sequence > 0 && sequence <= acknowledged) {
            return Err(format!("Logstash acknowledged {sequence} of {events} events").into());
        }
        acknowledged = acknowledged.max(sequence);
    }
    Ok(frames.len())
}

/// Receives a window as Logstash does: says once that it is alive, acknowledges half of the window and then
/// the whole. Returns the events, or nothing at the end of the connection.
pub(crate) async fn receive<S>(stream: &mut S) -> Result<Option<Vec<Value>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match header(stream).await {
        Ok(b'W') => {}
        Ok(other) => return Err(format!("frame {other} instead of a window").into()),
        Err(_) => return Ok(None),
    }
    let window = stream.read_u32().await?;
    if header(stream).await? != b'C' {
        return Err("the events are not compressed".into());
    }
    let size = stream.read_u32().await?;
    if size > LARGEST {
        return Err(format!("a frame of {size} bytes").into());
    }
    let mut compressed = vec![0; usize::try_from(size)?];
    stream.read_exact(&mut compressed).await?;
    let events = events(&compressed)?;
    if events.len() != usize::try_from(window)? {
        return Err(format!("{} events in a window of {window}", events.len()).into());
    }
    for sequence in [0, window / 2, window] {
        let mut acknowledgement = vec![VERSION, b'A'];
        acknowledgement.extend(sequence.to_be_bytes());
        stream.write_all(&acknowledgement).await?;
        stream.flush().await?;
    }
    Ok(Some(events))
}

/// The type of the next frame.
async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Result<u8> {
    let version = stream.read_u8().await?;
    if version != VERSION {
        return Err(format!("version {version} of Lumberjack").into());
    }
    Ok(stream.read_u8().await?)
}

/// The events of a compressed frame; their numbers count from 1.
fn events(compressed: &[u8]) -> Result<Vec<Value>> {
    let mut plain = ZlibDecoder::new(compressed);
    let mut events = Vec::new();
    let mut start = [0; 10];
    while plain.read(start.get_mut(..1).unwrap_or_default())? == 1 {
        plain.read_exact(start.get_mut(1..).unwrap_or_default())?;
        let [b'2', b'J', s0, s1, s2, s3, l0, l1, l2, l3] = start else {
            return Err("a compressed frame has other frames than events".into());
        };
        let sequence = u32::from_be_bytes([s0, s1, s2, s3]);
        if usize::try_from(sequence)? != events.len() + 1 {
            return Err(format!("event {sequence} after {}", events.len()).into());
        }
        let mut event = vec![0; usize::try_from(u32::from_be_bytes([l0, l1, l2, l3]))?];
        plain.read_exact(&mut event)?;
        events.push(serde_json::from_slice(&event)?);
    }
    Ok(events)
}
