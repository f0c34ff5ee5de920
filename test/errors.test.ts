import t from 'tap'
import { formatLocation, systemReason } from '../dist/errors.js'

t.test('a location reads FILE:LINE, or FILE when there is no line', async t => {
  t.equal(formatLocation({ file: 'mosquitto.conf', line: 3 }), 'mosquitto.conf:3')
  t.equal(formatLocation({ file: 'acl' }), 'acl')
})

t.test('a system error reads as strerror says it', async t => {
  t.equal(systemReason(Object.assign(new Error('EACCES: open /x'), { code: 'EACCES' })), 'Permission denied')
  t.equal(systemReason(new Error('something else')), 'something else')
})
