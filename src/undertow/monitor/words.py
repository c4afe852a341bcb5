"""The words of the interfaces themselves: keys and settings that are no speech.

What is not listed here is read as text, so a missing word gives the detectors a line too much, and never hides a text.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STRUCTURE = _words("""
    $defs $ref $schema additionalProperties allowed_tools allowed_token_ids annotations anyOf allOf oneOf args
    arguments assistant audio bad_words best_of block budget_tokens bytes cache_control call_id choices
    chat_template chat_template_kwargs citations code completion content content_block content_filter_results
    content_index context conversation created created_at custom data default definition delta description detail
    details dimensions do_sample documents done echo effort embedding embeddings encoding_format end_index enum
    error event examples exclude_zero_finish_reason exclusiveMaximum exclusiveMinimum extra_body file file_data
    file_id filename filters finish_reason format frequency_penalty function function_call functions
    generated_text grammar guided_choice guided_grammar guided_json guided_regex id ignore_eos image image_url
    images include include_obfuscation include_reasoning include_stop_str_in_output include_usage index input
    input_audio input_ids input_schema input_text input_type inputs instructions is_error item item_id items
    json_mode json_schema keep_alive keywords lang length_penalty level load_duration logit_bias logprob logprobs
    max max_completion_tokens max_length max_new_tokens max_output_tokens max_results max_tokens
    max_tokens_per_doc max_tool_calls maxItems maxLength maximum message messages metadata min min_length min_p
    min_tokens minItems minLength minimum mirostat mirostat_eta mirostat_tau modalities model multipleOf n name
    not nullable num_ctx num_gpu num_keep num_predict num_thread object obfuscation options output output_index
    output_text parallel_tool_calls parameters part partial_json parts pattern patternProperties prediction
    prefixItems presence_penalty previous_response_id priority prompt prompt_cache_key prompt_cache_retention
    prompt_eval_count prompt_eval_duration prompt_logprobs prompt_token_ids properties propertyNames provider raw
    reasoning reasoning_content reasoning_details reasoning_effort refusal repeat_last_n repeat_penalty
    repetition_penalty required response response_format return_dict return_full_text return_token_ids role
    safety_identifier safety_settings sampling_params schema score seed sequence_number service_tier signature
    skip_special_tokens source spaces_between_special_tokens special start_index status stop stop_reason
    stop_sequence stop_sequences stop_token_ids store stream stream_options strict structured_outputs suffix
    summary summary_index system system_fingerprint system_instruction temperature template text text_offset tfs_z
    think thinking thinking_blocks thought timeout title token token_logprobs tokens tool tool_call_id tool_calls
    tool_choice tool_name tool_resources tool_use_id tools top_k top_logprobs top_n top_n_tokens top_p transcript
    truncate truncation type typical_p uniqueItems url url_citation usage use_beam_search user verbosity voice
    watermark web_search_options
""")
"""Keys of requests and replies that are words of an interface, so that they are not read as text."""

SPOKEN = _words("""
    content text input prompt output arguments partial_json thinking reasoning reasoning_content refusal response
    generated_text transcript inputs instructions system delta suffix
""")
"""Keys under which every string is read as text; under any other key a word of `SETTINGS` is a setting and not read."""

SETTINGS = _words("""
    aac allowed_tools any array assistant auto base64 boolean chat.completion chat.completion.chunk completed
    computer concise content_block_delta content_block_start content_block_stop content_filter custom default
    detailed developer disabled enabled end_turn ephemeral error flac flex float format function function_call
    function_call_output grammar high image in_progress incomplete input_json_delta input_text integer json
    json_object json_schema lark length list low max_tokens mcp_call medium message message_delta message_start
    message_stop minimal model mp3 none null number object opus output_text pcm16 ping priority queued reasoning
    reasoning.text reasoning_summary reasoning_text redacted_thinking refusal regex required response
    response.completed response.content_part.added response.content_part.done response.created
    response.function_call_arguments.delta response.function_call_arguments.done response.in_progress
    response.output_item.added response.output_item.done response.output_text.delta response.output_text.done
    response.reasoning_summary_text.delta response.reasoning_summary_text.done response.refusal.delta
    response.refusal.done scale search_document search_query signature_delta stop stop_sequence string
    summary_text system text text_completion text_delta thinking thinking_delta tool tool_calls tool_result
    tool_use url_citation user wav
""")
"""Values that are settings of an interface, and no speech."""

NOT_TEXT = _words("""
    base64 image image_url input_image image_file input_audio audio audio_url video video_url input_video file
    input_file url document_url container_upload computer_screenshot image_generation_call item_reference
    image_embeds audio_embeds
""")
"""Values of `type` of parts that are no text, which detectors cannot read."""

ELSEWHERE = _words("""
    previous_response_id conversation file_id file_ids file_url vector_store_ids cached_content prompt_embeds
    image_url images videos audios input_audio file_data b64_json chat_template mm_processor_kwargs lora_request
    multi_modal_data image_data audio_data video_data
""")
"""Keys whose values stand for something outside of the body, or for something in it that is no text."""

TOKENS = _words("""
    prompt input inputs input_ids prompt_token_ids token_ids tokens context content text output_ids messages
""")
"""Keys under which a list of numbers is a text as token ids, which detectors cannot read."""
