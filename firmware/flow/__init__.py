"""The road of the data: telegrams in, values registered, evaluated and handed to the gate.

In its order: `pipeline` drives, `intake` takes telegrams, (`firmware.metering.register` picks values,)
`meter_watch` tells the logs of meters, `due` says what has to leave by now, `evaluation` asks the tariffs,
`delivery` hands on what the gate lets out, `undelivered` looks after what nobody takes. `consumer_statement`
sums up a day for a consumer; `ports` is what all of them ask of their surroundings.
"""
