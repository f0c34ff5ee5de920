// Who may see what, where a session goes from one client to another: the rights that count are those of who is there now.

import t from 'tap'
import { startBareBroker } from '../helpers/bare-broker.js'
import { until } from '../helpers/until.js'

t.test('a session that another user resumes delivers what that user may read, whatever was decided for the one before', async t => {
  const acl = 'user ann\ntopic read secret/#\nuser bob\ntopic read open/#\nuser eve\ntopic write #\n'
  const { connect } = await startBareBroker(t, { acl })
  const [ann, bob, eve] = [await connect(), await connect(), await connect()]
  await eve.connect({ clientId: 'eve', username: 'eve' })
  await ann.connect({ clientId: 'shared', username: 'ann', clean: false })
  await ann.subscribe('#')
  eve.publish('secret/1', 'for ann', {})
  t.equal((await ann.next('publish')).payload.toString(), 'for ann')

  await bob.connect({ clientId: 'shared', username: 'bob', clean: false })
  eve.publish('secret/1', 'not for bob', {})
  eve.publish('open/1', 'for bob', {})
  t.equal((await bob.next('publish')).payload.toString(), 'for bob')
})

t.test('who left while a reload was judging it gives its rights to nobody', async t => {
  const acl = 'user ann\ntopic read secret/#\nuser bob\ntopic read open/#\nuser eve\ntopic write #\n'
  const { broker, connect } = await startBareBroker(t, { acl })
  const [ann, bob, eve] = [await connect(), await connect(), await connect()]
  await eve.connect({ clientId: 'eve', username: 'eve' })
  await ann.connect({ clientId: 'shared', username: 'ann', clean: false })
  await ann.subscribe('#')
  let judged = () => {}
  const hashing = new Promise<void>(resolve => {
    judged = resolve
  })
  const reload = broker.recheckClients(({ admitted }) => async () => {
    await hashing
    return admitted
  })
  ann.destroy()
  await until(() => broker.clientCount === 1)
  await bob.connect({ clientId: 'shared', username: 'bob', clean: false })
  judged()
  await reload
  eve.publish('secret/1', 'not for bob')
  eve.publish('open/1', 'for bob')
  t.equal((await bob.next('publish')).payload.toString(), 'for bob')
})
