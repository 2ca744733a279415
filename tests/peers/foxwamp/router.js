// fox-wamp behind two ports of 127.0.0.1: `node router.js MQTTPORT WAMPPORT`. Everything is kept in
// memory, and its trace log is off. It runs until it is killed.

const Router = require('fox-wamp')

const [mqtt, wamp] = process.argv.slice(2).map(Number)
if (!mqtt || !wamp) {
  console.error('usage: node router.js MQTTPORT WAMPPORT')
  process.exit(2)
}

const router = new Router()
router.listenMQTT({ host: '127.0.0.1', port: mqtt })
router.listenWAMP({ host: '127.0.0.1', port: wamp, path: '/wamp' })
