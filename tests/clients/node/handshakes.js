// Makes the TLS connections that each line of stdin asks for, and answers each line, as `peer handshakes` does with Go.
// A line is `key=value`, separated by commas.

const fs = require('fs')
const readline = require('readline')
const tls = require('tls')

const VERSIONS = { 1.2: 'TLSv1.2', 1.3: 'TLSv1.3' }
const CIPHERS = { 128: 'ECDHE-ECDSA-AES128-GCM-SHA256', 256: 'ECDHE-ECDSA-AES256-GCM-SHA384' }
const GROUPS = { x25519: 'X25519', p384: 'P-384' }

function connection (words, session) {
  return new Promise((resolve, reject) => {
    let kept = session
    let length = 0
    const socket = tls.connect({
      host: '127.0.0.1',
      port: Number(words.port),
      servername: words.name,
      ca: fs.readFileSync(words.ca),
      cert: words.cert && fs.readFileSync(words.cert + '.crt'),
      key: words.cert && fs.readFileSync(words.cert + '.key'),
      minVersion: VERSIONS[words.min],
      maxVersion: VERSIONS[words.max],
      ciphers: CIPHERS[words.cipher],
      ecdhCurve: GROUPS[words.group],
      ALPNProtocols: words.alpn && [words.alpn],
      session
    })
    socket.on('session', (ticket) => { kept = ticket })
    socket.on('error', reject)
    socket.on('data', (data) => { length += data.length })
    socket.on('end', () => socket.end())
    socket.on('close', () => {
      if (words.how === 'get' && length === 0) {
        reject(new Error('no answer'))
      }
      resolve(kept)
    })
    socket.on('secureConnect', () => {
      if (words.how === 'drop') {
        socket.destroy()
      } else if (words.how === 'close') {
        socket.end()
      } else {
        const request = `GET / HTTP/1.1\r\nHost: ${words.name}\r\n\r\n`
        socket.write(request)
        if (words.how === 'half') {
          socket.end()
        }
      }
    })
  })
}

async function connections (line) {
  const words = Object.fromEntries(line.split(',').map((word) => {
    const [key, value] = word.split('=')
    return [key, value ?? '']
  }))
  let session
  for (let left = Number(words.count); left > 0; left--) {
    const kept = await connection(words, session)
    session = 'resume' in words ? kept : undefined
  }
}

async function main () {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      await connections(line)
      console.log('ok')
    } catch (error) {
      console.log('error', `${error.code ?? ''} ${error.message}`.replaceAll('\n', ' '))
    }
  }
}

main()
