'use strict'
// Drives autobahn-js. Usage: node autobahn.js URL [json|msgpack|cbor]

const autobahn = require('autobahn')
const { print, serve, Gauge } = require('./lines')

const [url, name] = process.argv.slice(2)
const { JSONSerializer, MsgpackSerializer, CBORSerializer } = autobahn.serializer
const serializers = { json: JSONSerializer, msgpack: MsgpackSerializer, cbor: CBORSerializer }
let connection
let session
const held = []
// Order id -> the promise of a call under way.
const calls = new Map()
const gauge = new Gauge()

function connect ({ realm, authid, ticket }) {
  return new Promise((resolve, reject) => {
    const options = { url, realm, max_retries: 0 }
    // Without a name the library offers what it offers by itself.
    if (name !== undefined) options.serializers = [new serializers[name]()]
    if (authid !== undefined) {
      Object.assign(options, { authid, authmethods: ['ticket'], onchallenge: () => ticket })
    }
    connection = new autobahn.Connection(options)
    connection.onopen = (opened, details) => {
      session = opened
      resolve({ session: session.id, details })
    }
    connection.onclose = (reason, details) => {
      print({ closed: { reason, uri: details.reason } })
      reject(new autobahn.Error(details.reason, [reason]))
      return true
    }
    connection.open()
  })
}

// autobahn hands a lone argument over as a plain value, anything else as a Result.
function unwrap (result) {
  if (result instanceof autobahn.Result) return { args: result.args, kwargs: result.kwargs }
  return { args: result === null || result === undefined ? [] : [result], kwargs: {} }
}

const endpoints = {
  echo: () => (args, kwargs) => new autobahn.Result(args, kwargs),
  fail: order => () => { throw new autobahn.Error(order.uri, order.args, order.kwargs) },
  count: () => async (args, kwargs, details) => {
    for (let i = 0; i < args[0]; i++) details.progress([i])
    return args[0]
  },
  hold: order => async args => {
    await gauge.hold(order.millis)
    return args[0]
  },
  wait: () => () => {
    print({ invoked: {} })
    return new Promise(() => {})
  }
}

serve({
  connect,
  subscribe: async ({ topic, options }) => {
    const subscription = await session.subscribe(topic, (args, kwargs, details) => {
      print({ event: { topic, args, kwargs, details: { ...details } } })
    }, options)
    held.push(subscription)
    return { subscription: subscription.id }
  },
  unsubscribe: async ({ topic }) => {
    const at = held.findIndex(item => item.topic === topic)
    await session.unsubscribe(held.splice(at, 1)[0])
  },
  publish: async ({ topic, args, kwargs, options }) => {
    const done = session.publish(topic, args, kwargs, options)
    return options && options.acknowledge ? { publication: (await done).id } : null
  },
  register: async order => {
    const endpoint = endpoints[order.endpoint](order)
    const registration = await session.register(order.procedure, endpoint, order.options)
    return { registration: registration.id }
  },
  call: async ({ id, procedure, args, kwargs, progress }) => {
    const options = progress ? { receive_progress: true } : {}
    const pending = session.call(procedure, args, kwargs, options)
    calls.set(id, pending)
    const report = value => print({ progress: { order: id, ...unwrap(value) } })
    return unwrap(await (progress ? pending.then(value => value, null, report) : pending))
  },
  cancel: ({ order, mode }) => calls.get(order).cancel({ mode }),
  calls: async ({ procedure, count }) => {
    const calls = Array.from({ length: count }, (_, i) => session.call(procedure, [i]))
    return { results: await Promise.all(calls) }
  },
  gauge: () => ({ most: gauge.most, running: gauge.running }),
  leave: () => connection.close()
})
