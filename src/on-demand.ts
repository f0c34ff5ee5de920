// Rooms with large libraries behind them that few configurations need, each loaded when one does: any other start takes six tenths of the time.

/** Kept: whoever has given up root may not find the file a second time. */
function once<T>(load: () => Promise<T>): () => Promise<T> {
  let loaded: Promise<T> | undefined
  return () => {
    loaded ??= load()
    return loaded
  }
}

export const loadRedisStore = once(() => import('./store/redis.js'))

export const loadOwnCertificate = once(() => import('./pki/own-certificate.js'))

export const loadEnrolment = once(async () => {
  const [{ Ca }, { Enrolment }, { Invitations }, { openEnrolmentServer }] = await Promise.all([
    import('./pki/ca.js'),
    import('./pki/enrolment.js'),
    import('./pki/invitations.js'),
    import('./net/enrolment-server.js')
  ])
  return { Ca, Enrolment, Invitations, openEnrolmentServer }
})

/** For whoever gives up root: that account may not be allowed to read our files, and a reload may ask for more than the start did. */
export async function loadAll(): Promise<void> {
  await Promise.all([loadRedisStore(), loadOwnCertificate(), loadEnrolment()])
}
