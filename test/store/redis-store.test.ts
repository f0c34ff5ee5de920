// Our store in a real Redis: the contract, and that nothing is left behind.

import { Redis } from 'ioredis'
import t from 'tap'
import { openRedisStore } from '../../dist/store/redis.js'
import { everything, storeContract } from '../contract/store.js'
import { recordLog } from '../helpers/bare-broker.js'
import { socketPath, startRedis } from '../helpers/redis-server.js'

const socket = socketPath(t)
await startRedis(t, t.testdir(), ['--port', '0', '--unixsocket', socket, '--databases', '64', '--appendfsync', 'no'])
let databases = 0

storeContract(
  t,
  'Redis',
  async t => {
    const db = databases++
    const watcher = new Redis({ path: socket, db })
    t.teardown(() => watcher.disconnect())
    const open = async () => {
      const redis = openRedisStore(`unix://${socket}?db=${db}`, recordLog())
      t.teardown(() => redis.close())
      await redis.ready
      return redis.store
    }
    return { store: await open(), reopen: open, leftovers: () => watcher.keys('*') }
  },
  { ...everything, keepsSource: false, keepsPublished: false, keepsLast: false }
)
