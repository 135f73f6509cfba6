// Clients from npm: the Elasticsearch client, and a client of Lumberjack, the protocol of Logstash.
//
//   client.js elasticsearch OPTIONS     asks which server answers, and sends bulk data
//   client.js lumberjack OPTIONS        sends events, and waits until each is acknowledged
//
// OPTIONS is a JSON object: ip, port, name, ca, and if wanted cert, key, proxy. The answer is one line of JSON.
// The proxy of the Elasticsearch client is an HTTP proxy, and that of Lumberjack a SOCKS5 proxy: a Logstash output has
// no other.

const dns = require('dns')
const fs = require('fs')

const EVENTS = 2000
const LOGSTASH_PORT = 5044

const [command, json] = process.argv.slice(2)
const options = JSON.parse(json)
const tls = {
  ca: fs.readFileSync(options.ca),
  cert: options.cert && fs.readFileSync(options.cert),
  key: options.key && fs.readFileSync(options.key)
}

// The names of example.com have no address.
const lookup = dns.lookup
dns.lookup = (name, asked, done) => {
  const known = name.endsWith('.example.com') ? options.ip : name
  return lookup(known, asked, done)
}

async function elasticsearch () {
  const { Client, HttpConnection } = require('@elastic/elasticsearch')
  const through = options.proxy ? { proxy: options.proxy, Connection: HttpConnection } : {}
  const node = `https://${options.name}:${options.port}`
  const client = new Client({ node, tls, maxRetries: 0, requestTimeout: 30000, ...through })
  const { seen } = await client.info()
  const datasource = Array.from({ length: EVENTS }, () => ({ message: 'x'.repeat(1000) }))
  const onDocument = () => ({ index: { _index: 'logs' } })
  const { successful } = await client.helpers.bulk({ datasource, onDocument })
  await client.close()
  return { seen, documents: successful }
}

// A socket behind the SOCKS5 proxy, which looks the name up.
async function tunnel () {
  const { SocksClient } = require('socks')
  const { hostname, port, username, password } = new URL(options.proxy)
  const { socket } = await SocksClient.createConnection({
    proxy: {
      host: hostname,
      port: Number(port),
      type: 5,
      userId: decodeURIComponent(username),
      password: decodeURIComponent(password)
    },
    command: 'connect',
    destination: { host: options.name, port: LOGSTASH_PORT }
  })
  return socket
}

async function lumberjack () {
  const Lumberjack = require('lumberjack-client')
  const { ip, port, name } = options
  // Nothing listens at this port of the name: only the tunnel leads to Logstash.
  const tunnelled = async () => ({ host: name, port: LOGSTASH_PORT, socket: await tunnel() })
  const at = options.proxy ? await tunnelled() : { host: ip, port }
  const client = new Lumberjack({ ...at, servername: name, ...tls }, true)
  for (let number = 0; number < EVENTS; number++) {
    client.log({ message: 'x'.repeat(1000), number })
  }
  return new Promise((resolve, reject) => {
    const { socket } = client
    let answer = Buffer.alloc(0)
    socket.on('error', reject)
    socket.on('data', (data) => {
      answer = Buffer.concat([answer, data])
      const whole = answer.length - answer.length % 6
      const last = answer.subarray(whole - 6, whole)
      if (whole > 0 && last.toString('latin1', 0, 2) !== '2A') {
        reject(new Error(`no acknowledgement: ${last.toString('hex')}`))
      } else if (whole > 0 && last.readUInt32BE(2) === EVENTS) {
        const { CN } = socket.getPeerCertificate().subject
        resolve({ server: CN, acknowledged: EVENTS })
      }
    })
  })
}

({ elasticsearch, lumberjack })[command]().then(
  (answer) => {
    console.log(JSON.stringify(answer))
    process.exit(0)
  },
  (error) => {
    console.error(error.message, error.cause ?? '')
    process.exit(1)
  }
)
