//! Two requests of the Kafka protocol: a client asks any broker which brokers there are and which one leads
//! each partition, and then sends records to each leader under the name that it advertises.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::Result;

/// The hosts that the brokers advertise. Broker 1 has the first and leads the first partition, and so on.
pub(crate) const HOSTS: [&str; 3] = ["kafka-1.example", "kafka-2.example", "kafka-3.example"];
const PARTITIONS: i32 = 3;
const TOPIC: &str = "agents";
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
/// The error of a broker that does not lead the partition.
const NOT_LEADER: i16 = 6;
const LARGEST: usize = 1 << 16;

/// Asks a broker for the host of the leader of each partition.
pub(crate) async fn leaders<S>(stream: &mut S) -> Result<Vec<(i32, &'static str)>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut all_topics = Vec::new();
    all_topics.extend(0_i32.to_be_bytes());
    let answer = ask(stream, METADATA, &all_topics).await?;
    let mut answer = Reader(&answer);
    let mut brokers = Vec::new();
    for _ in 0..answer.int()? {
        let id = answer.int()?;
        let host = answer.text()?;
        answer.int()?;
        brokers.push((id, host));
    }
    answer.int()?;
    answer.short()?;
    if answer.text()? != TOPIC {
        return Err("the broker has another topic".into());
    }
    let mut leaders = Vec::new();
    for _ in 0..answer.int()? {
        answer.short()?;
        let partition = answer.int()?;
        let leader = answer.int()?;
        for _ in 0..2 {
            for _ in 0..answer.int()? {
                answer.int()?;
            }
        }
        let mut of_leader = brokers.iter().filter(|(id, _)| *id == leader);
        let (_, host) = of_leader.next().ok_or("a leader that is not a broker")?;
        let known = HOSTS.into_iter().find(|known| known == host);
        leaders.push((partition, known.ok_or("a host of another lab")?));
    }
    Ok(leaders)
}

/// Sends records for a partition. Returns the bytes sent; a broker that does not lead it refuses them.
pub(crate) async fn produce<S>(stream: &mut S, partition: i32) -> Result<usize>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let records = [b'r'; 4096];
    let mut body = Vec::new();
    body.extend(1_i16.to_be_bytes());
    body.extend(10_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    text(&mut body, TOPIC)?;
    body.extend(1_i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend(i32::try_from(records.len())?.to_be_bytes());
    body.extend(records);
    let answer = ask(stream, PRODUCE, &body).await?;
    let mut answer = Reader(&answer);
    answer.int()?;
    answer.text()?;
    answer.int()?;
    match (answer.int()?, answer.short()?) {
        (answered, 0) if answered == partition => Ok(body.len()),
        (answered, error) => Err(format!("partition {answered}: error {error}").into()),
    }
}

/// Answers as broker `id`.
pub(crate) async fn answer<S>(stream: &mut S, id: i32) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let request = read(stream).await?;
        let mut request = Reader(&request);
        let key = request.short()?;
        request.short()?;
        let mut answer = request.int()?.to_be_bytes().to_vec();
        request.text()?;
        match key {
            METADATA => metadata(&mut answer)?,
            PRODUCE => acknowledge(&mut answer, id, &mut request)?,
            _ => return Err(format!("request {key}").into()),
        }
        write(stream, &answer).await?;
    }
}

fn metadata(answer: &mut Vec<u8>) -> Result<()> {
    answer.extend(PARTITIONS.to_be_bytes());
    for (id, host) in (1..=PARTITIONS).zip(HOSTS) {
        answer.extend(id.to_be_bytes());
        text(answer, host)?;
        answer.extend(9093_i32.to_be_bytes());
    }
    answer.extend(1_i32.to_be_bytes());
    answer.extend(0_i16.to_be_bytes());
    text(answer, TOPIC)?;
    answer.extend(PARTITIONS.to_be_bytes());
    for id in 1..=PARTITIONS {
        answer.extend(0_i16.to_be_bytes());
        answer.extend((id - 1).to_be_bytes());
        answer.extend(id.to_be_bytes());
        for _replicas_then_in_sync in 0..2 {
            answer.extend(1_i32.to_be_bytes());
            answer.extend(id.to_be_bytes());
        }
    }
    Ok(())
}

fn acknowledge(answer: &mut Vec<u8>, id: i32, request: &mut Reader<'_>) -> Result<()> {
    request.short()?;
    request.int()?;
    request.int()?;
    let topic = request.text()?;
    request.int()?;
    let partition = request.int()?;
    let error = if partition + 1 == id { 0 } else { NOT_LEADER };
    answer.extend(1_i32.to_be_bytes());
    text(answer, &topic)?;
    answer.extend(1_i32.to_be_bytes());
    answer.extend(partition.to_be_bytes());
    answer.extend(error.to_be_bytes());
    answer.extend(0_i64.to_be_bytes());
    Ok(())
}

/// Sends a request of version 0. Returns the answer behind its number.
async fn ask<S>(stream: &mut S, key: i16, body: &[u8]) -> Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const NUMBER: i32 = 7;
    let mut request = key.to_be_bytes().to_vec();
    request.extend(0_i16.to_be_bytes());
    request.extend(NUMBER.to_be_bytes());
    text(&mut request, "Elastic Agent")?;
    request.extend(body);
    write(stream, &request).await?;
    let answer = read(stream).await?;
    let mut reader = Reader(&answer);
    if reader.int()? != NUMBER {
        return Err("the answer is for another request".into());
    }
    Ok(reader.0.to_vec())
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> Result<()> {
    stream.write_i32(i32::try_from(message.len())?).await?;
    stream.write_all(message).await?;
    Ok(stream.flush().await?)
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>> {
    let size = usize::try_from(stream.read_i32().await?)?;
    if size > LARGEST {
        return Err(format!("a message of {size} bytes").into());
    }
    let mut message = vec![0; size];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

fn text(message: &mut Vec<u8>, text: &str) -> Result<()> {
    message.extend(i16::try_from(text.len())?.to_be_bytes());
    message.extend(text.as_bytes());
    Ok(())
}

/// The rest of a message.
struct Reader<'m>(&'m [u8]);

impl<'m> Reader<'m> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("the message is short")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn int(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn short(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    fn text(&mut self) -> Result<String> {
        let size = usize::try_from(self.short()?)?;
        let (text, rest): (&'m [u8], _) = self.0.split_at_checked(size).ok_or("short")?;
        self.0 = rest;
        Ok(String::from_utf8(text.to_vec())?)
    }
}
