%% A line-driven front of Erlang's megaco text codecs, for the interop tests.
%% Reads packets (4-byte length, then one letter and a payload) on stdin and answers each with one packet on stdout:
%%   d<text>     decode with the pretty encoder, re-encode with the pretty one
%%   c<text>     decode with the compact encoder, re-encode with the compact one
%%   f<text>     the term that the pretty decoder makes, as text
%%   m<name>     a message constructed here, encoded pretty
%%   n<name>     the same, encoded compact
%% The answer is k<text> for success and e<reason> for a refusal.
-mode(compile).

main(_) ->
    ok = io:setopts(standard_io, [binary, {encoding, latin1}]),
    loop().

loop() ->
    case file:read(standard_io, 4) of
        {ok, <<Length:32>>} ->
            {ok, <<Operation, Payload/binary>>} = file:read(standard_io, Length),
            Answer = try operate(Operation, Payload)
                     catch Class:Reason:Stack -> [$e, io_lib:format("~p", [{Class, Reason, Stack}])]
                     end,
            Packet = iolist_to_binary(Answer),
            ok = file:write(standard_io, [<<(byte_size(Packet)):32>>, Packet]),
            loop();
        _ -> halt(0)
    end.

operate($d, Text) -> again(megaco_pretty_text_encoder, Text);
operate($c, Text) -> again(megaco_compact_text_encoder, Text);
operate($f, Text) ->
    case megaco_pretty_text_encoder:decode_message([], Text) of
        {ok, Term} -> [$k, io_lib:format("~0p", [Term])];
        {error, Reason} -> [$e, io_lib:format("~p", [Reason])]
    end;
operate($m, Name) -> encode(megaco_pretty_text_encoder, message(Name));
operate($n, Name) -> encode(megaco_compact_text_encoder, message(Name)).

again(Encoder, Text) ->
    case Encoder:decode_message([], Text) of
        {ok, Term} -> encode(Encoder, Term);
        {error, Reason} -> [$e, io_lib:format("~p", [Reason])]
    end.

encode(Encoder, Term) ->
    case Encoder:encode_message([], Term) of
        {ok, Binary} -> [$k, Binary];
        {error, Reason} -> [$e, io_lib:format("~p", [Reason])]
    end.

%% --- messages made of megaco's records (version 1 of its message definitions), written as the tuples they are ---

message(Name) ->
    {'MegacoMessage', asn1_NOVALUE,
     {'Message', 1, {ip4Address, {'IP4Address', [192, 0, 2, 9], 2944}}, body(Name)}}.

body(<<"add">>) ->
    Control = {'LocalControlDescriptor', sendRecv, asn1_NOVALUE, asn1_NOVALUE,
               [{'PropertyParm', "ipdc/realm", ["access"], asn1_NOVALUE},
                {'PropertyParm', "gm/saf", ["on"], asn1_NOVALUE}]},
    Local = {'LocalRemoteDescriptor',
             [[property("v", "0"), property("c", "IN IP4 $"), property("m", "message $ TCP/TLS/MSRP *"),
               property("a", "fingerprint:SHA-256 $")]]},
    Remote = {'LocalRemoteDescriptor',
              [[property("v", "0"), property("c", "IN IP4 203.0.113.5"),
                property("m", "message 7394 TCP/TLS/MSRP *")]]},
    Stream = {'StreamDescriptor', 1, {'StreamParms', Control, Local, Remote}},
    Media = {'MediaDescriptor', asn1_NOVALUE, {multiStream, [Stream]}},
    Events = {'EventsDescriptor', 7, [{'RequestedEvent', "tcpbcc/BNCChange", asn1_NOVALUE, asn1_NOVALUE, []}]},
    Add = {'AmmRequest', [{megaco_term_id, true, [[$$]]}], [{mediaDescriptor, Media}, {eventsDescriptor, Events}]},
    requests(11, 16#FFFFFFFE, [{addReq, Add}]);
body(<<"modify">>) ->
    Signals = [{signal, {'Signal', "tlsbsc/EstBNC", asn1_NOVALUE, asn1_NOVALUE, asn1_NOVALUE, asn1_NOVALUE,
                         asn1_NOVALUE, []}}],
    Modify = {'AmmRequest', [term("T1")], [{signalsDescriptor, Signals}]},
    requests(12, 4711, [{modReq, Modify}]);
body(<<"subtract">>) ->
    Request = {'SubtractRequest', [{megaco_term_id, true, [[$*]]}], {'AuditDescriptor', [statsToken]}},
    {transactions,
     [{transactionRequest,
       {'TransactionRequest', 13,
        [{'ActionRequest', 4711, asn1_NOVALUE, asn1_NOVALUE,
          [{'CommandRequest', {subtractReq, Request}, asn1_NOVALUE, 'NULL'}]}]}}]};
body(<<"service-change">>) ->
    Parm = {'ServiceChangeParm', restart, asn1_NOVALUE, asn1_NOVALUE, {'ServiceChangeProfile', "imsalg_iq", 1},
            ["901 Cold Boot"], asn1_NOVALUE, asn1_NOVALUE, asn1_NOVALUE, asn1_NOVALUE},
    requests(14, 0, [{serviceChangeReq, {'ServiceChangeRequest', [term("root")], Parm}}]);
body(<<"error">>) ->
    {messageError, {'ErrorDescriptor', 400, "Syntax error in message"}};
body(<<"statistics">>) ->
    Result = {'AmmsReply', [term("T1")],
              [{statisticsDescriptor, [{'StatisticsParameter', "nt/os", ["12"]},
                                       {'StatisticsParameter', "nt/or", ["34"]}]}]},
    {transactions,
     [{transactionReply,
       {'TransactionReply', 15, asn1_NOVALUE,
        {actionReplies, [{'ActionReply', 4711, asn1_NOVALUE, asn1_NOVALUE, [{subtractReply, Result}]}]}}}]};
body(<<"acknowledgement">>) ->
    {transactions, [{transactionResponseAck, [{'TransactionAck', 1, 5}, {'TransactionAck', 7, asn1_NOVALUE}]},
                    {transactionPending, {'TransactionPending', 9}}]}.

requests(Id, Context, Commands) ->
    Made = [{'CommandRequest', Command, asn1_NOVALUE, asn1_NOVALUE} || Command <- Commands],
    {transactions,
     [{transactionRequest,
       {'TransactionRequest', Id, [{'ActionRequest', Context, asn1_NOVALUE, asn1_NOVALUE, Made}]}}]}.

property(Name, Value) -> {'PropertyParm', Name, [Value], asn1_NOVALUE}.

term(Name) -> {megaco_term_id, false, [Name]}.
