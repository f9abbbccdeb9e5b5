package com.licel.jcardsim.crypto;

import java.security.SecureRandom;

/**
 * Stands in front of jCardSim's class of this name, which is a generator without a seed: with it, each start makes the same keys and each
 * signature the same nonce. This one is the platform's generator.
 *
 * <p>Works only if its class path entry comes before jCardSim's; {@code smgw.host.Host} refuses to start otherwise.
 */
public class SecureRandomNullProvider extends SecureRandom {
    private static final long serialVersionUID = 1L;

    /** Made by key generation and by each signature. */
    public SecureRandomNullProvider() {
        super();
    }
}
