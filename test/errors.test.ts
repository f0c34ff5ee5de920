import t from 'tap'
import { formatLocation, formatProblem, systemReason } from '../dist/errors.js'

t.test('a location reads FILE:LINE, or FILE when there is no line', async t => {
  t.equal(formatLocation({ file: 'mosquitto.conf', line: 3 }), 'mosquitto.conf:3')
  t.equal(formatLocation({ file: 'acl' }), 'acl')
})

t.test('a system error reads as strerror says it', async t => {
  t.equal(systemReason(Object.assign(new Error('EACCES: open /x'), { code: 'EACCES' })), 'Permission denied')
  t.equal(systemReason(new Error('something else')), 'something else')
})

t.test('an error is printed with every place that led to it, as Mosquitto does', async t => {
  const at = { file: 'conf.d/a.conf', line: 2, includedFrom: { file: 'm.conf', line: 9 } }
  t.same(formatProblem({ severity: 'error', code: 'ERR_CONF_UNKNOWN', message: "Unknown configuration variable 'x'.", at }), [
    "Error: Unknown configuration variable 'x'.",
    'Error found at conf.d/a.conf:2.',
    'Error found at m.conf:9.'
  ])
})

t.test('an error without a place is one line', async t => {
  t.same(formatProblem({ severity: 'error', code: 'ERR_CONF_VALUE', message: 'No.' }), ['Error: No.'])
})

t.test('a warning and a notice are one line with their place', async t => {
  const at = { file: 'm.conf', line: 9 }
  t.same(formatProblem({ severity: 'warning', code: 'ERR_CONF_NOT_SUPPORTED', message: 'No effect.', at }), [
    'Warning: No effect. Found at m.conf:9.'
  ])
  t.same(formatProblem({ severity: 'notice', code: 'ERR_CONF_DEPRECATED', message: 'Old.', at }), ['Old. Found at m.conf:9.'])
})
