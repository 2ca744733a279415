'use strict'
// Drives mqtt.js. Usage: node mqtt.js URL   (mqtt://… or ws://…/mqtt)

const mqtt = require('mqtt')
const { print, serve } = require('./lines')

const url = process.argv[2]
let client
let collecting = null

function connect (order) {
  const { version, clientId, clean, expiry, keepalive, username, password, will } = order
  const options = {
    protocolVersion: version,
    clientId,
    clean: clean !== false,
    keepalive: keepalive || 0,
    username,
    password,
    reconnectPeriod: 0,
    resubscribe: false,
    will: will && { ...will, payload: bytes(will) },
    properties: version === 5 && expiry ? { sessionExpiryInterval: expiry } : undefined
  }
  return new Promise((resolve, reject) => {
    client = mqtt.connect(url, options)
    client.on('connect', ack => resolve({ present: ack.sessionPresent, code: ack.reasonCode || ack.returnCode || 0 }))
    client.on('error', reject)
    client.on('close', () => print({ closed: {} }))
    client.on('message', onMessage)
  })
}

function bytes ({ payload, hex }) {
  return hex === undefined ? payload : Buffer.from(hex, 'hex')
}

function onMessage (topic, payload, packet) {
  if (collecting && collecting.take(topic, payload)) return
  const { qos, retain, dup, properties } = packet
  print({ message: { topic, payload: payload.toString('latin1'), hex: payload.toString('hex'), qos, retain, dup, properties } })
}

// Counts numbered messages of one topic until the number `count - 1` has come.
// One topic, one publisher and one QoS keep their order, so whatever is missing
// then is lost.
class Collection {
  constructor ({ topic, count }) {
    Object.assign(this, { topic, count, received: 0, seen: new Set(), disorder: 0, highest: -1 })
    this.finished = new Promise(resolve => { this.finish = resolve })
  }

  take (topic, payload) {
    if (topic !== this.topic) return false
    const number = Number(payload.toString())
    this.received += 1
    this.seen.add(number)
    if (number < this.highest) this.disorder += 1
    this.highest = Math.max(this.highest, number)
    if (number === this.count - 1) this.finish()
    return true
  }

  report () {
    return { received: this.received, distinct: this.seen.size, disorder: this.disorder }
  }
}

serve({
  connect,
  subscribe: async ({ topic, qos, options }) => {
    const granted = await client.subscribeAsync(topic, { qos, ...options })
    return { granted: granted.map(({ qos }) => qos) }
  },
  unsubscribe: async ({ topic }) => { await client.unsubscribeAsync(topic) },
  publish: async order => {
    const { topic, qos, retain, properties } = order
    const ack = await client.publishAsync(topic, bytes(order), { qos, retain: retain === true, properties })
    return { code: (ack && ack.reasonCode) || 0 }
  },
  flood: async ({ topic, qos, count }) => {
    // Below the Receive Maximum of the router, which this library leaves to its user.
    const window = 50
    for (let at = 0; at < count; at += window) {
      const part = Array.from({ length: Math.min(window, count - at) }, (_, i) =>
        client.publishAsync(topic, String(at + i), { qos }))
      await Promise.all(part)
    }
    return { sent: count }
  },
  collect: order => { collecting = new Collection(order) },
  collected: async () => {
    await collecting.finished
    return collecting.report()
  },
  disconnect: () => client.endAsync().then(() => null)
})
